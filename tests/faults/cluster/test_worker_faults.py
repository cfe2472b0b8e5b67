"""Kill workers while they fill a table, and execute their tasks twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blocked_tables import (
    SECONDS_OF_A_DAY,
    blocked,
    day,
    find_worker,
    sample_tables,
    start_blocked_run,
    wait_for_blocked_client,
)
from dask_cluster import PLAIN_WORKER, DaskCluster, dask_cluster
from fault_scenario import (
    CHANGED_DAY,
    NEW_DAY,
    Scenario,
    assert_clear,
    assert_equals_clean_run,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_rerun_repairs_everything,
    main_process,
    put_version_a,
    rows_of_day,
    run,
    seeded_rng,
    wait_until_running,
)
from support import Bucket, Warehouse, times

from etl.engine import dask_executor
from etl.engine import runner as runner_module
from etl.step3_partition_and_load_all_csv import clean_day
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import current_loads
from etl.warehouse.run_history import begin_run
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    cleaned_partition,
    staging_gold_partition,
)
from etl.warehouse.transactions import transaction

pytestmark = pytest.mark.cluster

# --- Workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", sample_tables("workers", 3, 34))
def test_worker_killed_while_filling_a_table_is_replaced(
    scenario: Scenario, settings: Settings, workers: DaskCluster, tmp_path: Path, table: str
) -> None:
    with main_process(tmp_path, settings, "--scheduler", workers.address) as process:
        with blocked(settings, table) as unblock:
            worker = find_worker(workers, wait_for_blocked_client(settings, process))
            unblock()
            time.sleep(seeded_rng(table).uniform(0, SECONDS_OF_A_DAY))
            worker.kill()
            worker.wait()
        workers.start_worker()
        _, output = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert_equals_clean_run(scenario, settings)
    workers.wait_for_workers()


@pytest.mark.parametrize("number", range(times(1, 20)))
def test_worker_killed_at_a_random_moment_is_replaced(
    scenario: Scenario, settings: Settings, workers: DaskCluster, tmp_path: Path, number: int
) -> None:
    with main_process(tmp_path, settings, "--scheduler", workers.address) as process:
        wait_until_running(process, settings)
        time.sleep(seeded_rng(f"worker {number}").uniform(0, 1.5))
        worker = next(worker for worker in workers.workers if worker.poll() is None)
        worker.kill()
        worker.wait()
        workers.start_worker()
        _, output = process.communicate(timeout=90)
    if process.returncode:  # the worker was checked at the start of the run and is lost
        assert_one_clear_error(output)
        assert_gold_is_complete(scenario, settings)
        assert_rerun_repairs_everything(scenario, settings)
    else:
        assert_equals_clean_run(scenario, settings)
    workers.wait_for_workers()


def test_worker_retries_after_its_session_is_terminated(
    scenario: Scenario, settings: Settings, workers: DaskCluster, tmp_path: Path
) -> None:
    with main_process(tmp_path, settings, "--scheduler", workers.address) as process:
        with blocked(settings, staging_gold_partition(day(NEW_DAY))):
            port = wait_for_blocked_client(settings, process)
            Warehouse(settings).rows(
                "select pg_terminate_backend(pid) from pg_stat_activity where client_port = %s", port
            )
        _, output = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert "attempt 1 failed" in output, "the driver logs the messages of workers"
    assert_equals_clean_run(scenario, settings)


def test_day_that_kills_every_worker_is_named(scenario: Scenario, settings: Settings, tmp_path: Path) -> None:
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    table = cleaned_partition(day(NEW_DAY))
    with (
        dask_cluster(tmp_path, settings, workers=3, worker=PLAIN_WORKER, **allowed) as cluster,
        main_process(tmp_path, settings, "--scheduler", cluster.address) as process,
    ):
        for _ in range(2):
            with blocked(settings, table):
                find_worker(cluster, wait_for_blocked_client(settings, process)).kill()
        _, output = process.communicate(timeout=90)
    assert process.returncode == 1, output
    assert_one_clear_error(
        output, "step 3", "2 workers in a row died while running the same task of clean_day", "--memory-limit"
    )
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


def test_cluster_without_workers_ends_the_run_after_a_timeout(
    scenario: Scenario, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "SECONDS_TO_WAIT_FOR_WORKERS", 3.0)
    monkeypatch.setattr(dask_executor, "SECONDS_BETWEEN_LOOKS", 0.1)
    with (
        dask_cluster(tmp_path, settings, workers=1, worker=PLAIN_WORKER) as cluster,
        blocked(settings, cleaned_partition(day(NEW_DAY))) as unblock,
    ):
        runner, reports = start_blocked_run(settings, cluster)
        cluster.workers[0].kill()
        unblock()
        runner.join(60)
    (report,) = reports
    assert report.exit_code == 1
    assert_clear(
        report.error, "step 3", f"all workers of the scheduler {cluster.address} were lost", "python -m dask worker"
    )
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


def test_worker_of_another_warehouse_that_joins_during_a_run_is_reported(
    scenario: Scenario, settings: Settings, tmp_path: Path
) -> None:
    with (
        dask_cluster(tmp_path, settings, workers=1) as cluster,
        main_process(tmp_path, settings, "--scheduler", cluster.address) as process,
    ):
        with blocked(settings, BRONZE_LEADS) as unblock:
            wait_for_blocked_client(settings, process)
            cluster.start_worker(POSTGRES_DB="postgres")
            cluster.wait_for_workers()
            unblock()
        _, output = process.communicate(timeout=90)
    assert process.returncode == 1, output
    assert_one_clear_error(output, "worker tcp://", "/postgres does not contain this run", "POSTGRES_DB")
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


# --- Tasks that are executed twice ------------------------------------------------------------------------------------


class ExecuteTwice(ThreadPoolExecutor):
    """Execute each task a second time, as Dask does if a worker is lost before it reports the first result."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._thread_name_prefix == "early":  # a task of the driver itself
            return super().submit(work, *args, **kwargs)
        return super().submit(lambda: (work(*args, **kwargs), work(*args, **kwargs))[1])


@pytest.mark.parametrize("full_refresh", [False, True])
def test_every_task_can_be_executed_twice(
    scenario: Scenario, settings: Settings, monkeypatch: pytest.MonkeyPatch, full_refresh: bool
) -> None:
    monkeypatch.setattr(runner_module, "ThreadPoolExecutor", ExecuteTwice)
    assert run(settings, full_refresh=full_refresh).error is None
    assert_equals_clean_run(scenario, settings)


def test_new_day_can_be_merged_twice(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(settings)
    put_version_a(bucket)
    bucket.put_snapshot(NEW_DAY, [*rows_of_day(NEW_DAY, "Reno"), *rows_of_day(CHANGED_DAY, "Boise")[:3]])
    monkeypatch.setattr(runner_module, "ThreadPoolExecutor", ExecuteTwice)
    assert run(settings).error is None
    added = Warehouse(settings).contents()
    monkeypatch.undo()
    assert run(settings, full_refresh=True).error is None
    assert Warehouse(settings).contents() == added


# --- A task that two workers execute ----------------------------------------------------------------------------------


def test_day_given_to_two_workers_is_filled_by_one_at_a_time(settings: Settings) -> None:
    """Dask gives the day of a worker that it has lost contact with to another worker."""
    assert run(settings, full_refresh=True).error is None
    number = day(NEW_DAY)
    with transaction(settings) as db:
        begin_run(db, RUN_ID, "test", {})
        (bronze,) = (load for load in current_loads(db, BRONZE_SNAPSHOTS).values() if load.day == number)
    done = []
    attempts = [threading.Thread(target=lambda: done.append(clean_day(settings, RUN_ID, bronze))) for _ in range(2)]
    with blocked(settings, cleaned_partition(number)) as unblock:
        for attempt in attempts:
            attempt.start()
        waiting = "select count(*) from pg_locks where not granted"
        while all(attempt.is_alive() for attempt in attempts) and Warehouse(settings).value(waiting) < len(attempts):
            time.sleep(0.01)
        unblock()
        for attempt in attempts:
            attempt.join(30)
    assert len(done) == 2
    assert done[0] == done[1]
    table = cleaned_partition(number)
    assert Warehouse(settings).value(f"select count(*) from {table}") == done[0].rows > 0
    rejected = "select count(*) from silver.rejected_rows where step = 3 and _partition_date = %s"
    assert Warehouse(settings).value(rejected, number.date) == done[0].rejected.total() > 0


RUN_ID = "5f0c0f7e-0000-4000-8000-000000000001"
