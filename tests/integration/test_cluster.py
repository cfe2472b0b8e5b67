"""The same run on a Dask cluster: scheduler and workers are processes of their own, started by their command lines."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import CompletedProcess

import psycopg2
import pytest
from containers import compose, python_command
from dask_cluster import DaskCluster, dask_cluster
from distributed import Client
from servers import free_port, new_certificate
from support import PROJECT, Bucket, Warehouse, connection_arguments, empty_warehouse, environment_of, run_python

from etl.engine.cluster_checks import CLIENT_NAME, CONNECTIONS_OF_A_THREAD, CONNECTIONS_OF_THE_DRIVER
from etl.local.sample_data import ensure_sample
from etl.utils.utils_connection import Settings

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """`python main.py` with the settings in its environment, which can be replaced one by one."""

    def run(*arguments: str, **environment: str) -> CompletedProcess[str]:
        return run_python(tmp_path, "main.py", *arguments, environment=environment_of(settings) | environment)

    return run


@pytest.fixture
def cluster(settings: Settings, tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler and two workers that know the test's warehouse and bucket from their environment."""
    with dask_cluster(tmp_path, settings) as cluster:
        yield cluster


def put_files(bucket: Bucket) -> None:
    """Rows of all fates: good ones, separators, lines of another length, values that have no type."""
    for number in range(1, 5):
        rows = [{"LEADNUMBER": str(number * 100 + row), "email_hash": f"e{row}"} for row in range(20)]
        bucket.put_snapshot(number, [*rows, {"CITY": "-----"}, {"LEADNUMBER": "no number"}])
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(8)])


# --- the same tables, told the same way -------------------------------------------------------------------------------


def test_a_run_on_a_cluster_leaves_what_a_run_on_this_machine_does(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, run: Run, tmp_path: Path
) -> None:
    put_files(bucket)
    assert run().returncode == 0
    alone = warehouse.contents()
    with dask_cluster(tmp_path, settings) as cluster:
        done = run("--scheduler", cluster.address, "--full-refresh")
        assert done.returncode == 0, done.stderr
        assert warehouse.contents() == alone
        assert warehouse.staging_tables() == []
        again = run(DASK_SCHEDULER_ADDRESS=cluster.address)
        assert again.returncode == 0, again.stderr
        assert "0 new · 0 changed · 5 skipped" in again.stdout
        assert warehouse.contents() == alone
    assert "data_3.csv: 22 rows, 0 rejected" in done.stderr, "what workers log is told by the driver"
    assert "2 rejected" not in again.stderr


def test_new_days_are_added_on_a_cluster_as_well(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    bucket.put_snapshot(5, [{"LEADNUMBER": "999", "email_hash": "e1"}, {"LEADNUMBER": "105", "email_hash": "e5"}])
    assert run("--scheduler", cluster.address).returncode == 0
    added = warehouse.contents()
    assert run("--full-refresh").returncode == 0
    assert warehouse.contents() == added


def test_a_step_alone_runs_on_the_cluster_of_the_environment(
    cluster: DaskCluster, settings: Settings, bucket: Bucket, tmp_path: Path, run: Run
) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    bucket.put_snapshot(5, [{"LEADNUMBER": "999"}])
    environment = environment_of(settings) | {"DASK_SCHEDULER_ADDRESS": cluster.address}
    done = run_python(tmp_path, "-m", "etl.step2_load_to_postgres", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "data_5.csv" in done.stderr
    assert "stage_snapshot" not in done.stderr


def test_the_commands_of_the_compose_file_make_a_cluster(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, run: Run, tmp_path: Path
) -> None:
    put_files(bucket)
    services = compose("cluster")["services"]
    scheduler, worker = (python_command(services[name]) for name in ("scheduler", "worker"))
    with dask_cluster(tmp_path, settings, scheduler=scheduler, worker=worker) as cluster:
        done = run("--scheduler", cluster.address)
        assert done.returncode == 0, done.stderr
    assert warehouse.value("select count(*) from gold.lead_quality_matching") >= 80


def test_a_refused_file_is_told_as_on_one_machine(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    bucket.put("SFTP/data_5.csv", b"not,the,columns\n1,2,3\n")
    alone = run("--allow-partial")
    on_cluster = run("--allow-partial", "--full-refresh", "--scheduler", cluster.address)
    assert (alone.returncode, on_cluster.returncode) == (2, 2)
    assert alone.stderr[alone.stderr.index("error: ") :] == on_cluster.stderr[on_cluster.stderr.index("error: ") :]
    assert warehouse.value("select count(distinct _partition_date) from gold.lead_quality_matching") == 4


def test_leads_that_are_refused_are_told_as_on_one_machine(cluster: DaskCluster, bucket: Bucket, run: Run) -> None:
    put_files(bucket)
    bucket.put("parquet/leads.parquet", b"no parquet")
    alone, on_cluster = run(), run("--scheduler", cluster.address)
    assert (alone.returncode, on_cluster.returncode) == (2, 2)
    assert alone.stderr[alone.stderr.index("error: ") :] == on_cluster.stderr[on_cluster.stderr.index("error: ") :]


# --- the driver stays small -------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000


class Proxy:
    """Passes on what it is sent, in both directions, and keeps it."""

    def __init__(self, port: int) -> None:
        self.passed = bytearray()
        self._to = port
        self._keeping = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                with self._keeping:
                    self.passed += chunk
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)


def test_the_drivers_own_traffic_stays_under_a_megabyte(
    settings: Settings,
    cluster: DaskCluster,
    bucket: Bucket,
    real_data: Path,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    bucket.put_folder(real_data)
    s3_port = int(str(settings.aws_endpoint_url_s3).rpartition(":")[2])
    ports = {"PostgreSQL": settings.postgres_port, "S3": s3_port, "scheduler": int(cluster.address.rpartition(":")[2])}
    with ExitStack() as stack:
        proxies = {name: Proxy(port) for name, port in ports.items()}
        for proxy in proxies.values():
            stack.callback(proxy.close)
        done = run(
            POSTGRES_PORT=str(proxies["PostgreSQL"].port),
            AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{proxies['S3'].port}",
            DASK_SCHEDULER_ADDRESS=f"tcp://127.0.0.1:{proxies['scheduler'].port}",
        )
        assert done.returncode == 0, done.stderr
        counted = {name: len(proxy.passed) for name, proxy in proxies.items()}
    record_property("bytes", counted)
    assert all(counted.values()), "all of it goes through the proxies"
    assert sum(counted.values()) < MEGABYTE, counted
    sources = sum(file.stat().st_size for file in real_data.rglob("*.*"))
    assert sources > 4 * MEGABYTE, "which the workers have read"


PEAK = """
import pathlib, re, runpy, sys
sys.argv[:] = [sys.argv[1], *sys.argv[3:]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_the_drivers_memory_does_not_grow_with_the_data(
    postgres_server: Settings,
    s3_endpoint: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    peaks = {}
    for scale in (1, 10):
        folder = tmp_path / str(scale)
        folder.mkdir()
        with empty_warehouse(postgres_server, s3_endpoint, f"memory at scale {scale}") as settings:
            ensure_sample(folder / "sample", scale=scale, days=8)
            Bucket(settings).put_folder(folder / "sample")
            with dask_cluster(folder, settings) as cluster:
                arguments = ("-c", PEAK, str(PROJECT / "main.py"), "--", "--scheduler", cluster.address)
                done = run_python(folder, *arguments, environment=environment_of(settings))
            assert done.returncode == 0, done.stderr
            rows = Warehouse(settings).value("select count(*) from gold.lead_quality_matching")
            assert rows > 25_000 * scale
        peaks[scale] = int((folder / "peak").read_text()) / 1024
    record_property("MB", peaks)
    assert peaks[10] < 1.05 * peaks[1], peaks


# --- secrets ----------------------------------------------------------------------------------------------------------

PLANTED = {"S3_SECRET_ACCESS_KEY": "planted+key/of-the-cluster", "BI_READER_PASSWORD": "planted-for-the-cluster"}


@pytest.fixture
def secrets(settings: Settings) -> tuple[str, ...]:
    return (settings.postgres_password.get_secret_value(), *PLANTED.values())


def test_no_secret_goes_to_the_scheduler_or_into_a_log(
    settings: Settings, bucket: Bucket, run: Run, tmp_path: Path, secrets: tuple[str, ...]
) -> None:
    put_files(bucket)
    bucket.put("SFTP/data_5.csv", b"not,the,columns\n1,2,3\n")
    with dask_cluster(tmp_path, settings, **PLANTED) as cluster:
        spy = Proxy(int(cluster.address.rpartition(":")[2]))
        address = f"tcp://127.0.0.1:{spy.port}"
        done = run("--allow-partial", "--log-level", "debug", "--scheduler", address, **PLANTED)
        spy.close()
        assert done.returncode == 2, done.stderr
        told = done.stdout + done.stderr + cluster.logs()
    assert b"stage_snapshot" in spy.passed, "tasks have passed here"
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in spy.passed


def test_over_tls_workers_need_no_settings_of_their_own(
    bucket: Bucket, warehouse: Warehouse, run: Run, tmp_path: Path, secrets: tuple[str, ...]
) -> None:
    put_files(bucket)
    paths = new_certificate(tmp_path, None)
    certificate, key = str(paths["cert"]), str(paths["key"])
    tls = {"CA_FILE": certificate}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        tls |= {f"{role}__CERT": certificate, f"{role}__KEY": key}
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in tls.items()}
    with dask_cluster(tmp_path, None, protocol="tls", **tls) as cluster:
        done = run("--scheduler", cluster.address, "--log-level", "debug", **tls, **PLANTED)
        assert done.returncode == 0, done.stderr + cluster.logs()
        told = done.stdout + done.stderr + cluster.logs()
    assert warehouse.value("select count(*) from gold.lead_quality_matching") > 80
    for secret in secrets:
        assert secret not in told


# --- what is wrong is told at the start -------------------------------------------------------------------------------


def error_of(done: CompletedProcess[str]) -> str:
    """The one error that a run ends with."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "\n  → " in done.stderr
    return done.stderr[done.stderr.index("error: ") :]


def test_a_scheduler_that_is_not_there(run: Run, warehouse: Warehouse) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    assert f"no Dask scheduler answers at {address}" in error_of(run("--scheduler", address))
    assert warehouse.value("select status from meta.pipeline_runs") == "failed"


def test_an_address_that_is_none(run: Run) -> None:
    assert "DASK_SCHEDULER_ADDRESS: must be tcp://host:port" in error_of(run("--scheduler", "host"))


def test_dask_that_is_not_installed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(\"No module named 'distributed'\")")
    environment = environment_of(settings) | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    done = run_python(tmp_path, "main.py", "--scheduler", "tcp://127.0.0.1:8786", environment=environment)
    assert "needs Dask, which cannot be imported" in error_of(done)
    assert "pip install -r requirements-dask.txt" in done.stderr


@pytest.fixture
def error_with(settings: Settings, tmp_path: Path, run: Run) -> Callable[..., str]:
    """The error of a run on a cluster in which a second worker was started with other arguments or variables."""

    def error_with(*arguments: str, **environment: str) -> str:
        with dask_cluster(tmp_path, settings, workers=1) as cluster:
            cluster.start_worker(*arguments, **environment)
            cluster.wait_for_workers()
            return error_of(run("--scheduler", cluster.address))

    return error_with


def test_a_worker_of_another_dask(tmp_path: Path, error_with: Callable[..., str]) -> None:
    other = tmp_path / "other"
    metadata = other / "dask-2020.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: dask\nVersion: 2020.1.0\n")
    error = error_with(PYTHONPATH=f"{other}:{PROJECT}")
    assert "has dask 2020.1.0, the driver " in error
    assert "requirements-dask.txt" in error


def test_a_worker_of_another_version_of_the_pipeline(tmp_path: Path, error_with: Callable[..., str]) -> None:
    other = tmp_path / "other"
    for part in ("etl", "sql_scripts"):
        shutil.copytree(PROJECT / part, other / part)
    with (other / "etl" / "step2_load_to_postgres.py").open("a") as file:
        file.write("# a line more\n")
    assert "has another version of the pipeline" in error_with(PYTHONPATH=str(other))


def test_a_worker_without_the_pipeline(error_with: Callable[..., str]) -> None:
    error = error_with(PYTHONPATH="")
    assert "cannot load the pipeline" in error
    assert "No module named 'etl'" in error
    assert "in the project's folder" in error


def test_a_worker_without_settings(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_HOST="", S3_BUCKET_NAME="")
    assert "worker tcp://127.0.0.1:" in error
    assert "missing settings: POSTGRES_HOST, S3_BUCKET_NAME" in error


def test_a_worker_of_another_warehouse(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_DB="postgres")
    assert "/postgres does not contain this run" in error


def test_a_worker_that_may_not_connect(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_PASSWORD="wrong")
    assert "worker tcp://127.0.0.1:" in error
    assert "password authentication failed" in error


def test_a_cluster_on_which_another_run_is_at_work(
    cluster: DaskCluster, bucket: Bucket, run: Run, warehouse: Warehouse
) -> None:
    put_files(bucket)
    with Client(cluster.address, name=CLIENT_NAME, set_as_default=False):  # as a driver is known to the scheduler
        turned_away = run("--scheduler", cluster.address)
    assert turned_away.returncode == 3, turned_away.stderr
    assert f"another run is active on the cluster of {cluster.address}\n  → wait" in turned_away.stderr
    assert run("--scheduler", cluster.address).returncode == 0
    assert warehouse.value("select count(*) from meta.pipeline_runs where status = 'complete'") == 1


def test_more_threads_than_postgres_has_connections(settings: Settings, tmp_path: Path, run: Run) -> None:
    with dask_cluster(tmp_path, settings, workers=0) as cluster:
        cluster.start_worker("--nthreads", "500")
        cluster.wait_for_workers()
        error = error_of(run("--scheduler", cluster.address))
    needed = CONNECTIONS_OF_A_THREAD * 500 + CONNECTIONS_OF_THE_DRIVER
    assert f"the workers' 500 threads need {needed} connections" in error
    assert "threads in all; or raise max_connections" in error


def test_the_connections_of_others_are_not_to_be_had(
    cluster: DaskCluster, settings: Settings, bucket: Bucket, run: Run
) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    needed = 2 * CONNECTIONS_OF_A_THREAD + CONNECTIONS_OF_THE_DRIVER
    limits = Warehouse(settings)
    allowed = limits.value(
        "select sum(setting::int) filter (where name = 'max_connections') "
        "- sum(setting::int) filter (where name <> 'max_connections') from pg_settings "
        "where name in ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
    )
    with ExitStack() as stack:
        for _ in range(allowed - needed + 1):
            other = psycopg2.connect(**connection_arguments(settings), application_name="somebody else")
            stack.callback(other.close)
        assert f"has {needed - 1} for them" in error_of(run("--scheduler", cluster.address))
    assert run("--scheduler", cluster.address).returncode == 0


def test_workers_give_their_connections_back_when_the_run_ends(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    assert warehouse.value("select count(*) from pg_stat_activity where application_name ~ 'homebuddy'") == 0


def test_of_dask_nothing_is_imported_without_a_scheduler(settings: Settings, bucket: Bucket, tmp_path: Path) -> None:
    put_files(bucket)
    code = (
        "import runpy, sys\n"
        "program = sys.argv.pop()\n"
        "try:\n"
        "    runpy.run_path(program, run_name='__main__')\n"
        "finally:\n"
        "    print('loaded:', sorted({'dask', 'distributed', 'etl.engine.cluster'} & set(sys.modules)))\n"
    )
    done = run_python(tmp_path, "-c", code, str(PROJECT / "main.py"), environment=environment_of(settings))
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
