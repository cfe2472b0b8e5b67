"""A run on a Dask cluster gives the same tables, a small driver and no leaked secret."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from crm_files import put_files
from dask_cluster import PLAIN_WORKER, DaskCluster, dask_cluster
from servers import new_certificate
from support import LONG, PROJECT, Bucket, Warehouse, empty_warehouse, environment_of, run_python

from etl.local.sample_data import write_sample
from etl.utils.utils_connection import Settings

pytestmark = pytest.mark.cluster

Run = Callable[..., CompletedProcess[str]]


# --- Equal tables and errors ------------------------------------------------------------------------------------------


def test_run_on_a_cluster_gives_the_same_tables(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    assert run().returncode == 0
    local = warehouse.contents()
    done = run("--scheduler", cluster.address, "--full-refresh")
    assert done.returncode == 0, done.stderr
    assert warehouse.contents() == local
    assert warehouse.staging_tables() == []
    again = run(DASK_SCHEDULER_ADDRESS=cluster.address)
    assert again.returncode == 0, again.stderr
    assert "0 new · 0 changed · 5 skipped" in again.stdout
    assert warehouse.contents() == local
    assert "data_3.csv: 22 rows, 0 rejected" in done.stderr, "the driver logs the messages of workers"
    assert "2 rejected" not in again.stderr


def test_new_days_are_merged_on_a_cluster(cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    bucket.put_snapshot(5, [{"LEADNUMBER": "999", "email_hash": "e1"}, {"LEADNUMBER": "105", "email_hash": "e5"}])
    assert run("--scheduler", cluster.address).returncode == 0
    added = warehouse.contents()
    assert run("--full-refresh").returncode == 0
    assert warehouse.contents() == added


def test_single_step_runs_on_the_cluster_of_the_environment(
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


def test_refused_file_gives_the_same_error_on_a_cluster(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    bucket.put("SFTP/data_5.csv", b"not,the,columns\n1,2,3\n")
    local = run("--allow-partial")
    on_cluster = run("--allow-partial", "--full-refresh", "--scheduler", cluster.address)
    assert (local.returncode, on_cluster.returncode) == (2, 2)
    assert local.stderr[local.stderr.index("error: ") :] == on_cluster.stderr[on_cluster.stderr.index("error: ") :]
    assert warehouse.value("select count(distinct _partition_date) from gold.lead_quality_matching") == 4


def test_refused_leads_give_the_same_error_on_a_cluster(cluster: DaskCluster, bucket: Bucket, run: Run) -> None:
    put_files(bucket)
    bucket.put("parquet/leads.parquet", b"no parquet")
    local, on_cluster = run(), run("--scheduler", cluster.address)
    assert (local.returncode, on_cluster.returncode) == (2, 2)
    assert local.stderr[local.stderr.index("error: ") :] == on_cluster.stderr[on_cluster.stderr.index("error: ") :]


# --- Traffic and memory of the driver ---------------------------------------------------------------------------------

MEGABYTE = 1_000_000


class Proxy:
    """Forward traffic in both directions, and record it."""

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
        with suppress(OSError):  # the listener is closed
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


def test_traffic_of_the_driver_stays_under_a_megabyte(
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
    assert all(counted.values()), "all traffic goes through the proxies"
    assert sum(counted.values()) < MEGABYTE, counted
    sources = sum(file.stat().st_size for file in real_data.rglob("*.*"))
    assert sources > 4 * MEGABYTE, "the workers have read the files"


PEAK = """
import pathlib, re, runpy, sys
sys.argv[:] = [sys.argv[1], *sys.argv[3:]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


@pytest.mark.skipif(not LONG, reason="loads the sample four times over: FAULTS=long")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_of_the_driver_does_not_grow_with_the_data(
    postgres_server: Settings,
    s3_endpoint: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    peaks = {}
    for scale in (1, 4):
        folder = tmp_path / str(scale)
        folder.mkdir()
        with empty_warehouse(postgres_server, s3_endpoint, f"memory at scale {scale}") as settings:
            write_sample(folder / "sample", scale=scale, days=8)
            Bucket(settings).put_folder(folder / "sample")
            with dask_cluster(folder, settings, worker=PLAIN_WORKER) as cluster:
                arguments = ("-c", PEAK, str(PROJECT / "main.py"), "--", "--scheduler", cluster.address)
                done = run_python(folder, *arguments, environment=environment_of(settings))
            assert done.returncode == 0, done.stderr
            rows = Warehouse(settings).value("select count(*) from gold.lead_quality_matching")
            assert rows > 25_000 * scale
        peaks[scale] = int((folder / "peak").read_text()) / 1024
    record_property("MB", peaks)
    assert peaks[4] < 1.05 * peaks[1], peaks


# --- Secrets ----------------------------------------------------------------------------------------------------------

PLANTED = {"S3_SECRET_ACCESS_KEY": "planted+key/of-the-cluster", "BI_READER_PASSWORD": "planted-for-the-cluster"}


@pytest.fixture
def secrets(settings: Settings) -> tuple[str, ...]:
    return (settings.postgres_password.get_secret_value(), *PLANTED.values())


def test_scheduler_and_logs_receive_no_secret(
    settings: Settings, bucket: Bucket, run: Run, tmp_path: Path, secrets: tuple[str, ...]
) -> None:
    put_files(bucket)
    bucket.put("SFTP/data_5.csv", b"not,the,columns\n1,2,3\n")
    with dask_cluster(tmp_path, settings, workers=1, worker=PLAIN_WORKER, **PLANTED) as cluster:
        proxy = Proxy(int(cluster.address.rpartition(":")[2]))
        address = f"tcp://127.0.0.1:{proxy.port}"
        done = run("--allow-partial", "--log-level", "debug", "--scheduler", address, **PLANTED)
        proxy.close()
        assert done.returncode == 2, done.stderr
        output = done.stdout + done.stderr + cluster.logs()
    assert b"stage_snapshot" in proxy.passed, "tasks went through the proxy"
    for secret in secrets:
        assert secret not in output
        assert secret.encode() not in proxy.passed


def test_workers_over_tls_need_no_settings(
    bucket: Bucket, warehouse: Warehouse, run: Run, tmp_path: Path, secrets: tuple[str, ...]
) -> None:
    put_files(bucket)
    paths = new_certificate(tmp_path, None)
    certificate, key = str(paths["cert"]), str(paths["key"])
    tls = {"CA_FILE": certificate}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        tls |= {f"{role}__CERT": certificate, f"{role}__KEY": key}
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in tls.items()}
    with dask_cluster(tmp_path, None, workers=1, worker=PLAIN_WORKER, protocol="tls", **tls) as cluster:
        done = run("--scheduler", cluster.address, "--log-level", "debug", **tls, **PLANTED)
        assert done.returncode == 0, done.stderr + cluster.logs()
        output = done.stdout + done.stderr + cluster.logs()
    assert warehouse.value("select count(*) from gold.lead_quality_matching") > 80
    for secret in secrets:
        assert secret not in output
