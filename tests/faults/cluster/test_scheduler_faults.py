"""Kill the scheduler or the driver while a table is filled."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from blocked_tables import (
    blocked,
    day,
    sample_tables,
    start_blocked_run,
    wait_for_blocked_client,
)
from dask_cluster import DaskCluster, dask_cluster
from fault_scenario import (
    NEW_DAY,
    Scenario,
    assert_clear,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_rerun_repairs_everything,
    main_process,
    seeded_rng,
)
from support import Warehouse

from etl.engine import cluster as cluster_module
from etl.engine import cluster_checks, dask_executor
from etl.utils.utils_connection import Settings
from etl.warehouse.tables import (
    ROW_CONTENTS,
    cleaned_partition,
    staging_gold_partition,
)

pytestmark = pytest.mark.cluster

# --- Scheduler and driver ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", sample_tables("scheduler", 1, 15))
def test_scheduler_killed_while_a_table_is_filled_is_reported(
    scenario: Scenario, settings: Settings, tmp_path: Path, table: str
) -> None:
    assert_loss_of_the_scheduler_is_reported(scenario, settings, tmp_path, table, seeded_rng(table).uniform(0, 0.5))


def test_scheduler_killed_while_the_driver_works_alone_is_reported(
    scenario: Scenario, settings: Settings, tmp_path: Path
) -> None:
    """Between two steps nothing waits for the scheduler: the loss is detected when the next day is submitted."""
    seconds = cluster_module.SECONDS_TO_CONNECT + 2  # the client tries to reconnect for this long
    assert_loss_of_the_scheduler_is_reported(scenario, settings, tmp_path, ROW_CONTENTS, seconds)


def assert_loss_of_the_scheduler_is_reported(
    scenario: Scenario, settings: Settings, folder: Path, table: str, seconds: float
) -> None:
    """Kill the scheduler while a session is about to fill this table, and unblock the session after some seconds."""
    with (
        dask_cluster(folder, settings) as cluster,
        main_process(folder, settings, "--scheduler", cluster.address) as process,
    ):
        with blocked(settings, table) as unblock:
            wait_for_blocked_client(settings, process)
            cluster.scheduler.kill()
            time.sleep(seconds)
            unblock()
        _, output = process.communicate(timeout=90)
        assert process.returncode == 1, output
        assert_one_clear_error(output, f"the scheduler {cluster.address} was lost", "rerun")
        assert_gold_is_complete(scenario, settings)
        assert_rerun_repairs_everything(scenario, settings)


def test_scheduler_that_stops_responding_ends_the_run_after_a_timeout(
    scenario: Scenario, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"SECONDS_TO_WAIT_FOR_WORKERS": 2.0, "SECONDS_BETWEEN_LOOKS": 0.1}.items():
        monkeypatch.setattr(dask_executor, name, seconds)
    with dask_cluster(tmp_path, settings) as cluster:
        with blocked(settings, cleaned_partition(day(NEW_DAY))) as unblock:
            runner, reports = start_blocked_run(settings, cluster)
            monkeypatch.setattr(cluster_checks, "SECONDS_TO_ANSWER", 1.0)
            cluster.scheduler.send_signal(signal.SIGSTOP)
            runner.join(5)
            unblock()
            runner.join(60)
        cluster.scheduler.send_signal(signal.SIGCONT)
    (report,) = reports
    assert report.exit_code == 1
    assert_clear(report.error, "step 3", "did not answer within 1 s")
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


@pytest.mark.parametrize("table", sample_tables("driver", 1, 15))
def test_driver_killed_while_workers_continue_is_completed_by_the_next_run(
    scenario: Scenario, settings: Settings, workers: DaskCluster, tmp_path: Path, table: str
) -> None:
    """The next run waits for the tables that workers still fill, and completes the rest."""
    with (
        main_process(tmp_path, settings, "--scheduler", workers.address) as process,
        blocked(settings, table) as unblock,
    ):
        wait_for_blocked_client(settings, process)
        process.kill()
        process.communicate()
        assert_gold_is_complete(scenario, settings)
        threading.Timer(seeded_rng(table).uniform(0, 1), unblock).start()
        assert_rerun_repairs_everything(scenario, settings)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_driver_makes_workers_roll_back(
    scenario: Scenario, settings: Settings, workers: DaskCluster, tmp_path: Path, signal_number: signal.Signals
) -> None:
    with (
        main_process(tmp_path, settings, "--scheduler", workers.address) as process,
        blocked(settings, staging_gold_partition(day(NEW_DAY))),
    ):
        wait_for_blocked_client(settings, process)
        process.send_signal(signal_number)
        _, output = process.communicate(timeout=30)  # although the table is still blocked
        assert process.returncode == 1, output
        assert_one_clear_error(output, signal_number.name, "step 6", "rerun")
        sessions = "select count(*) from pg_stat_activity where application_name = 'homebuddy-leads-etl'"
        assert Warehouse(settings).value(sessions) == 0
    status = "select status from meta.pipeline_runs order by started_at desc limit 1"
    assert Warehouse(settings).value(status) == "aborted"
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)
