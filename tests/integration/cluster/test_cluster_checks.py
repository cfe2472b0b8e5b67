"""The cluster is checked at the start of a run: each fault is one clear error."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

import psycopg2
import pytest
from crm_files import put_files
from dask_cluster import DaskCluster, dask_cluster
from distributed import Client
from killed_run import wait_until_sessions_end
from servers import free_port
from support import PROJECT, Bucket, Warehouse, connection_arguments, environment_of, run_python

from etl.engine import cluster_checks
from etl.engine.cluster_checks import CLIENT_NAME, CONNECTIONS_OF_A_THREAD, CONNECTIONS_OF_THE_DRIVER
from etl.utils.errors import ClusterError
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

pytestmark = pytest.mark.cluster

Run = Callable[..., CompletedProcess[str]]


# --- Refused clusters -------------------------------------------------------------------------------------------------


def error_of(done: CompletedProcess[str]) -> str:
    """Return the only error of a failed run."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "\n  → " in done.stderr
    return done.stderr[done.stderr.index("error: ") :]


def test_missing_scheduler_is_named(run: Run, warehouse: Warehouse) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    assert f"no Dask scheduler answers at {address}" in error_of(run("--scheduler", address))
    assert warehouse.value("select status from meta.pipeline_runs") == "failed"


def test_invalid_scheduler_address_is_named(run: Run) -> None:
    assert "DASK_SCHEDULER_ADDRESS must be tcp://host:port" in error_of(run("--scheduler", "host"))


def test_missing_dask_is_explained(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(\"No module named 'distributed'\")")
    environment = environment_of(settings) | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    done = run_python(tmp_path, "main.py", "--scheduler", "tcp://127.0.0.1:8786", environment=environment)
    assert "needs Dask, which cannot be imported" in error_of(done)
    assert "pip install -r requirements-dask.txt" in done.stderr


@pytest.fixture
def error_with(cluster: DaskCluster, run: Run) -> Callable[..., str]:
    """Return a function that runs on a cluster with one worker more, a different one, and returns the error."""

    def error_with(*arguments: str, **environment: str) -> str:
        with cluster.other_worker(*arguments, **environment):
            return error_of(run("--scheduler", cluster.address))

    return error_with


def test_worker_with_another_dask_version_is_refused(tmp_path: Path, error_with: Callable[..., str]) -> None:
    other = tmp_path / "other"
    metadata = other / "dask-2020.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: dask\nVersion: 2020.1.0\n")
    error = error_with(PYTHONPATH=f"{other}:{PROJECT}")
    assert "has dask 2020.1.0, the driver " in error
    assert "requirements-dask.txt" in error


def test_worker_with_another_pipeline_version_is_refused(tmp_path: Path, error_with: Callable[..., str]) -> None:
    other = tmp_path / "other"
    for part in ("etl", "sql_scripts"):
        shutil.copytree(PROJECT / part, other / part)
    with (other / "etl" / "step2_load_to_postgres.py").open("a") as file:
        file.write("# a line more\n")
    assert "has another version of the pipeline" in error_with(PYTHONPATH=str(other))


def test_worker_without_the_pipeline_is_refused(error_with: Callable[..., str]) -> None:
    error = error_with(PYTHONPATH="")
    assert "cannot load the pipeline" in error
    assert "No module named 'etl'" in error
    assert "in the project's folder" in error


def test_scheduler_without_the_pipeline_is_refused(settings: Settings, tmp_path: Path, run: Run) -> None:
    with dask_cluster(tmp_path, settings, workers=0, PYTHONPATH="") as cluster:
        cluster.start_worker(PYTHONPATH=str(PROJECT))
        cluster.wait_for_workers()
        error = error_of(run("--scheduler", cluster.address))
    assert "the scheduler cannot load the pipeline: No module named 'etl'" in error
    assert "in the project's folder" in error


def test_worker_without_settings_is_refused(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_HOST="", S3_BUCKET_NAME="")
    assert "worker tcp://127.0.0.1:" in error
    assert "missing settings: POSTGRES_HOST, S3_BUCKET_NAME" in error


def test_worker_of_another_warehouse_is_refused(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_DB="postgres")
    assert "/postgres does not contain this run" in error


def test_worker_with_another_role_is_refused(
    error_with: Callable[..., str],
    warehouse: Warehouse,
    python: Callable[..., CompletedProcess[str]],
    settings: Settings,
) -> None:
    assert python("main.py", "--only-step", "1", environment=environment_of(settings)).returncode == 0
    warehouse.rows("create role other_loader login password 'of-the-other-loader' in role analyst")
    try:
        error = error_with(POSTGRES_USER="other_loader", POSTGRES_PASSWORD="of-the-other-loader")
    finally:
        warehouse.rows("drop role other_loader")
    assert "worker tcp://127.0.0.1:" in error
    assert "its role is other_loader, the driver's is homebuddy" in error
    assert "set its POSTGRES_USER to homebuddy" in error


def test_worker_that_cannot_read_s3_is_named(error_with: Callable[..., str], bucket: Bucket) -> None:
    put_files(bucket)
    error = error_with(S3_ACCESS_KEY_ID="", S3_SECRET_ACCESS_KEY="")
    assert re.search(r"worker tcp://127\.0\.0\.1:\d+: .*credentials", error)


def test_worker_with_a_wrong_password_is_refused(error_with: Callable[..., str]) -> None:
    error = error_with(POSTGRES_PASSWORD="wrong")
    assert "worker tcp://127.0.0.1:" in error
    assert "password authentication failed" in error


def test_second_run_on_the_same_cluster_is_refused(
    cluster: DaskCluster, bucket: Bucket, run: Run, warehouse: Warehouse
) -> None:
    put_files(bucket)
    with Client(cluster.address, name=CLIENT_NAME, set_as_default=False):  # the name of a driver
        refused = run("--scheduler", cluster.address)
    assert refused.returncode == 3, refused.stderr
    assert f"another run is active on the cluster of {cluster.address}\n  → wait" in refused.stderr
    assert run("--scheduler", cluster.address).returncode == 0
    assert warehouse.value("select count(*) from meta.pipeline_runs where status = 'complete'") == 1


def test_more_threads_than_connections_are_refused(error_with: Callable[..., str]) -> None:
    error = error_with("--nthreads", "500")
    needed = CONNECTIONS_OF_A_THREAD * 502 + CONNECTIONS_OF_THE_DRIVER
    assert f"the workers' 502 threads need {needed} connections" in error
    assert "threads in all; or raise max_connections" in error


def test_hint_omits_threads_if_not_even_one_is_possible(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_checks, "CONNECTIONS_OF_THE_DRIVER", 10_000)
    with pytest.raises(ClusterError) as refused:
        cluster_checks.check_connection_budget(settings, threads=1)
    close_connections()
    assert str(refused.value.hint).startswith("raise max_connections")


def test_connections_in_use_by_other_sessions_are_subtracted(
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
    limits.rows("create role another_user login password 'another'")
    another = connection_arguments(settings) | {"user": "another_user", "password": "another"}
    with ExitStack() as stack:
        stack.callback(limits.rows, "drop role another_user")
        for _ in range(allowed - needed + 1):
            stack.callback(psycopg2.connect(**another, application_name="another session").close)
        assert f"has {needed - 1} available" in error_of(run("--scheduler", cluster.address))
    assert run("--scheduler", cluster.address).returncode == 0


def test_workers_close_their_connections_after_the_run(
    cluster: DaskCluster, bucket: Bucket, warehouse: Warehouse, run: Run
) -> None:
    put_files(bucket)
    assert run("--scheduler", cluster.address).returncode == 0
    wait_until_sessions_end(warehouse.rows)  # raises when a worker keeps one; a busy server sees their end with a delay


def test_dask_is_not_imported_without_a_scheduler(settings: Settings, bucket: Bucket, tmp_path: Path) -> None:
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
