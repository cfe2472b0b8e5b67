"""Block the tables that workers fill, and find the worker that is blocked."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psutil
import psycopg2
from dask_cluster import WORKER, DaskCluster
from scenario import (
    CHANGED_DAY,
    DAYS_OF_A,
    NEW_DAY,
    dice,
    times,
)
from support import Warehouse, connection_arguments

from etl.utils.day import Day
from etl.utils.utils_connection import Settings
from etl.warehouse.gold_models import MODELS
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
"""What a worker takes for a day of this story, about."""
PLAIN_WORKER = (*WORKER, "--no-nanny")
"""A process that is its own: who kills it kills what works."""


def day(number: int) -> Day:
    return Day.of_file(number, Settings.model_fields["partition_start_date"].default)


IN_HAND = (
    BRONZE_LEADS,
    SILVER_LEADS,
    *(staging_bronze_partition(day(number)) for number in (CHANGED_DAY, NEW_DAY)),
    *(cleaned_partition(day(number)) for number in (CHANGED_DAY, NEW_DAY)),
    *(staging_gold_partition(day(number)) for number in (*DAYS_OF_A, NEW_DAY)),
    *(table.replace("gold.", "staging.") for table in MODELS),
)
"""What workers fill in the run from A to B: in steps 2, 3 and 6."""


def drawn(what: str, short: int, long: int) -> list[str]:
    """Tables, each another one as far as there are so many."""
    return (dice(what).sample(IN_HAND, len(IN_HAND)) * 3)[: times(short, long)]


@contextmanager
def held_up(settings: Settings, table: str) -> Iterator[Callable[[], None]]:
    """Whoever is about to fill this table stops there, in the midst of a transaction, until he is let go."""
    with closing(psycopg2.connect(**connection_arguments(settings))) as connection, connection.cursor() as db:
        db.execute("select pg_advisory_lock(%s, hashtext(%s))", (_FILLING, table))
        yield lambda: db.execute("select pg_advisory_unlock_all()")


def port_of_who_is_held_up(settings: Settings, process: subprocess.Popen[str]) -> int:
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
    raise AssertionError(f"nobody came: {process.communicate()}")


def worker_of(cluster: DaskCluster, port: int) -> subprocess.Popen[bytes]:
    """The worker whose connection to PostgreSQL has this port at its end."""
    for worker in cluster.workers:
        if worker.poll() is None and any(
            connection.laddr.port == port for connection in psutil.Process(worker.pid).net_connections("tcp")
        ):
            return worker
    raise AssertionError(f"port {port} is of no worker")
