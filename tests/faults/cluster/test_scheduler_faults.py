"""Kill the scheduler or the driver while a table is filled."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from blocked_tables import (
    day,
    drawn,
    held_up,
    port_of_who_is_held_up,
)
from dask_cluster import DaskCluster, dask_cluster
from scenario import (
    NEW_DAY,
    Story,
    assert_clear,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_one_rerun_mends_everything,
    dice,
    run,
    started,
)
from support import Warehouse

from etl.engine import cluster as cluster_module
from etl.engine import cluster_checks, dask_executor
from etl.engine.report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse.tables import (
    ROW_VERSIONS,
    cleaned_partition,
    staging_gold_partition,
)

# --- scheduler and driver ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", drawn("scheduler", 2, 15))
def test_scheduler_killed_while_a_table_is_filled_is_reported(
    story: Story, settings: Settings, tmp_path: Path, table: str
) -> None:
    assert_the_loss_of_the_scheduler_is_told(story, settings, tmp_path, table, dice(table).uniform(0, 0.5))


def test_scheduler_killed_while_the_driver_works_alone_is_reported(
    story: Story, settings: Settings, tmp_path: Path
) -> None:
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


def test_scheduler_that_stops_responding_ends_the_run_after_a_timeout(
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


@pytest.mark.parametrize("table", drawn("driver", 2, 15))
def test_driver_killed_while_workers_continue_is_completed_by_the_next_run(
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
def test_cancelled_driver_makes_workers_roll_back(
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
