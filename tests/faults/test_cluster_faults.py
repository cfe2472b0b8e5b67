"""Faults of a Dask cluster: workers, the scheduler and the driver are killed while a day is in hand."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from dask_cluster import WORKER, DaskCluster, dask_cluster
from scenario import (
    CHANGED_DAY,
    DAYS_OF_A,
    NEW_DAY,
    Story,
    assert_as_after_a_clean_run,
    assert_clear,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_one_rerun_mends_everything,
    database_with_version_a,
    dice,
    put_version_a,
    rows_of_day,
    run,
    started,
    times,
    wait_until_running,
)
from support import Bucket, Warehouse, connection_arguments

from etl.engine import cluster as cluster_module
from etl.engine import cluster_checks, dask_executor
from etl.engine import runner as run_room
from etl.engine.report import RunReport
from etl.step3_partition_and_load_all_csv import clean_day
from etl.utils.day import Day
from etl.utils.utils_connection import Settings
from etl.warehouse.gold_models import MODELS
from etl.warehouse.load_ledger import _FILLING, current_loads
from etl.warehouse.run_history import begin_run
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    ROW_VERSIONS,
    SILVER_LEADS,
    cleaned_partition,
    staging_bronze_partition,
    staging_gold_partition,
)
from etl.warehouse.transactions import transaction

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


@pytest.fixture
def settings(story: Story) -> Iterator[Settings]:
    """A database of a name that the workers know, which holds version A, in front of a bucket that holds version B."""
    with database_with_version_a(story, DATABASE) as settings:
        yield settings


@pytest.fixture(scope="module")
def workers(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers; who kills one starts another one."""
    of_workers = story.settings.model_copy(update={"postgres_db": DATABASE})
    with dask_cluster(tmp_path_factory.mktemp("cluster"), of_workers, worker=PLAIN_WORKER) as cluster:
        yield cluster


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


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", drawn("workers", 6, 34))
def test_a_worker_killed_in_mid_day(
    story: Story, settings: Settings, workers: DaskCluster, tmp_path: Path, table: str
) -> None:
    with started(tmp_path, settings, "--scheduler", workers.address) as process:
        with held_up(settings, table) as let_go:
            worker = worker_of(workers, port_of_who_is_held_up(settings, process))
            let_go()
            time.sleep(dice(table).uniform(0, SECONDS_OF_A_DAY))
            worker.kill()
            worker.wait()
        workers.start_worker()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert_as_after_a_clean_run(story, settings)
    workers.wait_for_workers()


@pytest.mark.parametrize("number", range(times(2, 20)))
def test_a_worker_killed_at_a_random_moment(
    story: Story, settings: Settings, workers: DaskCluster, tmp_path: Path, number: int
) -> None:
    with started(tmp_path, settings, "--scheduler", workers.address) as process:
        wait_until_running(process, settings)
        time.sleep(dice(f"worker {number}").uniform(0, 1.5))
        worker = next(worker for worker in workers.workers if worker.poll() is None)
        worker.kill()
        worker.wait()
        workers.start_worker()
        _, said = process.communicate(timeout=90)
    if process.returncode:  # it was asked at the start of the run, and is no more
        assert_one_clear_error(said)
        assert_gold_is_complete(story, settings)
        assert_one_rerun_mends_everything(story, settings)
    else:
        assert_as_after_a_clean_run(story, settings)
    workers.wait_for_workers()


def test_a_worker_whose_session_is_ended_tries_again(
    story: Story, settings: Settings, workers: DaskCluster, tmp_path: Path
) -> None:
    with started(tmp_path, settings, "--scheduler", workers.address) as process:
        with held_up(settings, staging_gold_partition(day(NEW_DAY))):
            port = port_of_who_is_held_up(settings, process)
            Warehouse(settings).rows(
                "select pg_terminate_backend(pid) from pg_stat_activity where client_port = %s", port
            )
        _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert "attempt 1 failed" in said, "the driver tells what the worker has to say"
    assert_as_after_a_clean_run(story, settings)


def test_a_day_at_which_workers_die_one_after_the_other_is_named(
    story: Story, settings: Settings, tmp_path: Path
) -> None:
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    table = cleaned_partition(day(NEW_DAY))
    with (
        dask_cluster(tmp_path, settings, workers=3, worker=PLAIN_WORKER, **allowed) as cluster,
        started(tmp_path, settings, "--scheduler", cluster.address) as process,
    ):
        for _ in range(2):
            with held_up(settings, table):
                worker_of(cluster, port_of_who_is_held_up(settings, process)).kill()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 1, said
    assert_one_clear_error(said, "step 3", "clean_day: 2 workers died at it one after the other", "memory")
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


def test_a_cluster_without_a_worker_left_is_waited_for_and_then_given_up(
    story: Story, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "SECONDS_TO_WAIT_FOR_WORKERS", 3.0)
    monkeypatch.setattr(dask_executor, "SECONDS_BETWEEN_LOOKS", 0.1)
    with dask_cluster(tmp_path, settings, workers=1, worker=PLAIN_WORKER) as cluster:
        reports: list[RunReport] = []
        on_cluster = settings.model_copy(update={"dask_scheduler_address": cluster.address})
        runner = threading.Thread(target=lambda: reports.append(run(on_cluster)))
        with held_up(settings, cleaned_partition(day(NEW_DAY))) as let_go:
            runner.start()
            while not Warehouse(settings).value("select count(*) from pg_locks where not granted"):
                time.sleep(0.01)
            cluster.workers[0].kill()
            let_go()
            runner.join(60)
    (report,) = reports
    assert report.exit_code == 1
    assert_clear(
        report.error, "step 3", f"all workers of the scheduler {cluster.address} were lost", "python -m dask worker"
    )
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


# --- scheduler and driver ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", drawn("scheduler", 2, 15))
def test_the_scheduler_killed_in_mid_day(story: Story, settings: Settings, tmp_path: Path, table: str) -> None:
    assert_the_loss_of_the_scheduler_is_told(story, settings, tmp_path, table, dice(table).uniform(0, 0.5))


def test_the_scheduler_killed_while_the_driver_works_alone(story: Story, settings: Settings, tmp_path: Path) -> None:
    """Between two steps nothing is waited for: the loss is found out when the next day is handed over."""
    seconds = cluster_module.SECONDS_TO_CONNECT + 2  # so long it tries to connect anew
    assert_the_loss_of_the_scheduler_is_told(story, settings, tmp_path, ROW_VERSIONS, seconds)


def assert_the_loss_of_the_scheduler_is_told(
    story: Story, settings: Settings, folder: Path, table: str, seconds: float
) -> None:
    """It is killed while somebody is about to fill this table; he goes on after so many seconds."""
    with (
        dask_cluster(folder, settings) as cluster,
        started(folder, settings, "--scheduler", cluster.address) as process,
    ):
        with held_up(settings, table) as let_go:
            port_of_who_is_held_up(settings, process)
            cluster.scheduler.kill()
            time.sleep(seconds)
            let_go()
        _, said = process.communicate(timeout=90)
        assert process.returncode == 1, said
        assert_one_clear_error(said, f"the scheduler {cluster.address} was lost", "rerun")
        assert_gold_is_complete(story, settings)
        assert_one_rerun_mends_everything(story, settings)


def test_a_scheduler_that_does_not_answer_any_more_is_given_up(
    story: Story, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"SECONDS_TO_WAIT_FOR_WORKERS": 2.0, "SECONDS_BETWEEN_LOOKS": 0.1}.items():
        monkeypatch.setattr(dask_executor, name, seconds)
    with dask_cluster(tmp_path, settings) as cluster:
        reports: list[RunReport] = []
        on_cluster = settings.model_copy(update={"dask_scheduler_address": cluster.address})
        runner = threading.Thread(target=lambda: reports.append(run(on_cluster)))
        with held_up(settings, cleaned_partition(day(NEW_DAY))) as let_go:
            runner.start()
            while not Warehouse(settings).value("select count(*) from pg_locks where not granted"):
                time.sleep(0.01)
            monkeypatch.setattr(cluster_checks, "SECONDS_TO_ANSWER", 1.0)
            cluster.scheduler.send_signal(signal.SIGSTOP)
            runner.join(5)
            let_go()
            runner.join(60)
        cluster.scheduler.send_signal(signal.SIGCONT)
    (report,) = reports
    assert report.exit_code == 1
    assert_clear(report.error, "step 3", "did not answer within 1 s")
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


def test_a_worker_of_another_warehouse_that_joins_in_mid_run(story: Story, settings: Settings, tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path, settings, workers=1) as cluster,
        started(tmp_path, settings, "--scheduler", cluster.address) as process,
    ):
        with held_up(settings, BRONZE_LEADS) as let_go:
            port_of_who_is_held_up(settings, process)
            cluster.start_worker(POSTGRES_DB="postgres")
            cluster.wait_for_workers()
            let_go()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 1, said
    assert_one_clear_error(said, "worker tcp://", "/postgres does not contain this run", "POSTGRES_DB")
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


@pytest.mark.parametrize("table", drawn("driver", 2, 15))
def test_the_driver_killed_while_workers_go_on(
    story: Story, settings: Settings, workers: DaskCluster, tmp_path: Path, table: str
) -> None:
    """The next run waits for what the workers still have in hand, and does the rest."""
    with (
        started(tmp_path, settings, "--scheduler", workers.address) as process,
        held_up(settings, table) as let_go,
    ):
        port_of_who_is_held_up(settings, process)
        process.kill()
        process.communicate()
        assert_gold_is_complete(story, settings)
        threading.Timer(dice(table).uniform(0, 1), let_go).start()
        assert_one_rerun_mends_everything(story, settings)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_asked_to_end_has_the_workers_roll_back(
    story: Story, settings: Settings, workers: DaskCluster, tmp_path: Path, asked: signal.Signals
) -> None:
    with (
        started(tmp_path, settings, "--scheduler", workers.address) as process,
        held_up(settings, staging_gold_partition(day(NEW_DAY))),
    ):
        port_of_who_is_held_up(settings, process)
        process.send_signal(asked)
        _, said = process.communicate(timeout=30)  # though the day is held up still
        assert process.returncode == 1, said
        assert_one_clear_error(said, asked.name, "step 6", "rerun")
        sessions = "select count(*) from pg_stat_activity where application_name = 'homebuddy-leads-etl'"
        assert Warehouse(settings).value(sessions) == 0
    status = "select status from meta.pipeline_runs order by started_at desc limit 1"
    assert Warehouse(settings).value(status) == "aborted"
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


# --- a worker that has died after its transaction was committed, and before it said so --------------------------------


class DoneTwice(ThreadPoolExecutor):
    """Does each piece of work a second time, as Dask does when a worker has not told of the first."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._thread_name_prefix == "early":  # that is the driver itself
            return super().submit(work, *args, **kwargs)
        return super().submit(lambda: (work(*args, **kwargs), work(*args, **kwargs))[1])


@pytest.mark.parametrize("full_refresh", [False, True])
def test_all_that_workers_do_can_be_done_twice(
    story: Story, settings: Settings, monkeypatch: pytest.MonkeyPatch, full_refresh: bool
) -> None:
    monkeypatch.setattr(run_room, "ThreadPoolExecutor", DoneTwice)
    assert run(settings, full_refresh=full_refresh).error is None
    assert_as_after_a_clean_run(story, settings)


def test_a_new_day_can_be_added_twice(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(settings)
    put_version_a(bucket)
    bucket.put_snapshot(NEW_DAY, [*rows_of_day(NEW_DAY, "Reno"), *rows_of_day(CHANGED_DAY, "Boise")[:3]])
    monkeypatch.setattr(run_room, "ThreadPoolExecutor", DoneTwice)
    assert run(settings).error is None
    added = Warehouse(settings).contents()
    monkeypatch.undo()
    assert run(settings, full_refresh=True).error is None
    assert Warehouse(settings).contents() == added


# --- a worker that is not dead after all ------------------------------------------------------------------------------


def test_a_day_that_two_have_in_hand_is_filled_by_one_after_the_other(settings: Settings) -> None:
    """Dask gives the day of a worker that it has lost sight of to another one."""
    assert run(settings, full_refresh=True).error is None
    number = day(NEW_DAY)
    with transaction(settings) as db:
        begin_run(db, RUN_ID, "test", {})
        (bronze,) = (load for load in current_loads(db, BRONZE_SNAPSHOTS).values() if load.day == number)
    done = []
    attempts = [threading.Thread(target=lambda: done.append(clean_day(settings, RUN_ID, bronze))) for _ in range(2)]
    with held_up(settings, cleaned_partition(number)) as let_go:
        for attempt in attempts:
            attempt.start()
        while Warehouse(settings).value("select count(*) from pg_locks where not granted") < len(attempts):
            time.sleep(0.01)
        let_go()
        for attempt in attempts:
            attempt.join(30)
    assert len(done) == 2
    assert done[0] == done[1]
    table = cleaned_partition(number)
    assert Warehouse(settings).value(f"select count(*) from {table}") == done[0].rows > 0
    rejected = "select count(*) from silver.rejected_rows where step = 3 and _partition_date = %s"
    assert Warehouse(settings).value(rejected, number.date) == done[0].rejected > 0


RUN_ID = "5f0c0f7e-0000-4000-8000-000000000001"
