"""Block the tables that workers fill, and find the worker that is blocked."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psutil
import psycopg2
from dask_cluster import DaskCluster
from fault_scenario import CHANGED_DAY, DAYS_OF_A, NEW_DAY, run, seeded_rng
from support import Warehouse, connection_arguments, times

from etl.engine.run_report import RunReport
from etl.utils.day import Day
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import _FILLING
from etl.warehouse.tables import (
    BRONZE_LEADS,
    SILVER_LEADS,
    cleaned_partition,
    staging_bronze_partition,
    staging_gold_partition,
)

DATABASE = "on_a_cluster"
SECONDS_OF_A_DAY = 0.05
"""Approximate time that a worker takes for one day of the scenario."""


def day(number: int) -> Day:
    return Day.of_file(number, Settings.model_fields["partition_start_date"].default)


FILLED_TABLES = (
    BRONZE_LEADS,
    SILVER_LEADS,
    *(staging_bronze_partition(day(number)) for number in (CHANGED_DAY, NEW_DAY)),
    *(cleaned_partition(day(number)) for number in (CHANGED_DAY, NEW_DAY)),
    *(staging_gold_partition(day(number)) for number in (*DAYS_OF_A, NEW_DAY)),
)
"""Tables that workers fill in steps 2, 3 and 6 of the run from version A to version B."""


def sample_tables(what: str, short: int, long: int) -> list[str]:
    """Sample tables to fill; all of them are different as long as there are enough."""
    return (seeded_rng(what).sample(FILLED_TABLES, len(FILLED_TABLES)) * 3)[: times(short, long)]


@contextmanager
def blocked(settings: Settings, table: str) -> Iterator[Callable[[], None]]:
    """Block every session that is about to fill this table, inside its transaction. Yield a function to unblock it."""
    with closing(psycopg2.connect(**connection_arguments(settings))) as connection, connection.cursor() as db:
        db.execute("select pg_advisory_lock(%s, hashtext(%s))", (_FILLING, table))
        yield lambda: db.execute("select pg_advisory_unlock_all()")


def wait_for_blocked_client(settings: Settings, process: subprocess.Popen[str]) -> int:
    warehouse, deadline = Warehouse(settings), time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        found = warehouse.rows(
            "select client_port from pg_locks join pg_stat_activity using (pid) "
            "where locktype = 'advisory' and classid = %s and not granted",
            _FILLING,
        )
        if found:
            return int(found[0][0])
        time.sleep(0.01)
    raise AssertionError(f"no session was blocked: {process.communicate()}")


def find_worker(cluster: DaskCluster, port: int) -> subprocess.Popen[bytes]:
    """Return the worker whose connection to PostgreSQL uses this client port."""
    for worker in cluster.workers:
        if worker.poll() is None and any(
            connection.laddr.port == port for connection in psutil.Process(worker.pid).net_connections("tcp")
        ):
            return worker
    raise AssertionError(f"port {port} belongs to no worker")


def start_blocked_run(settings: Settings, cluster: DaskCluster) -> tuple[threading.Thread, list[RunReport]]:
    """Start a run on the cluster in a thread, and wait until a session of it is blocked."""
    reports: list[RunReport] = []
    on_cluster = settings.model_copy(update={"dask_scheduler_address": cluster.address})
    runner = threading.Thread(target=lambda: reports.append(run(on_cluster)))
    runner.start()
    while runner.is_alive() and not Warehouse(settings).value("select count(*) from pg_locks where not granted"):
        time.sleep(0.01)
    assert reports == [], "the run has ended without being blocked"
    return runner, reports
