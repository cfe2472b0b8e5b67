"""A run that was interrupted is completed by the next run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import loads
import psycopg2
import pytest
from support import Bucket, Warehouse, connection_arguments

from etl import step6_insert_into_gold_tables
from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse import anomalies

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.mark.parametrize("last_step", [1, 2, 3, 4, 5])
def test_run_interrupted_between_two_steps_is_completed_by_the_next(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, last_step: int
) -> None:
    bucket.put_snapshot(1, loads.rows_of_day(1))
    loads.put_leads(bucket)
    run_pipeline()
    bucket.put_snapshot(1, [*loads.rows_of_day(1, city="Reno"), {"LEADNUMBER": "no number"}])
    bucket.put_snapshot(2, loads.rows_of_day(2))
    loads.put_leads(bucket, 3)
    for number in range(1, last_step + 1):
        assert run_pipeline(only_step=number).error is None
    assert bool(warehouse.staging_tables()) == (last_step == 3), "only cleaned days are in staging"

    assert run_pipeline().error is None
    contents = warehouse.contents()
    assert warehouse.staging_tables() == []
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
    assert warehouse.value("select count(*) from gold.lead_quality_matching where city = 'Reno'") == 5


@pytest.mark.usefixtures("loaded")
def test_file_changed_between_steps_3_and_4_loads_its_latest_content(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    contents = warehouse.contents()
    bucket.put_snapshot(2, loads.rows_of_day(2, city="Reno"))
    for number in (1, 2, 3):
        run_pipeline(only_step=number)
    bucket.put_snapshot(2, loads.rows_of_day(2))
    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


@pytest.mark.usefixtures("loaded")
def test_staging_table_that_a_run_without_lock_drops_does_not_stop_the_next(
    settings: Settings, run_pipeline: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("create table staging.affected_leads (lead_uuid text)")
    reports: list[RunReport] = []
    run = threading.Thread(target=lambda: reports.append(run_pipeline()))
    with closing(psycopg2.connect(**connection_arguments(settings))) as other, other.cursor() as db:
        db.execute("drop table staging.affected_leads")
        run.start()
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'drop table%'"
        until = time.monotonic() + 20
        while not warehouse.value(waiting) and time.monotonic() < until:
            time.sleep(0.05)
        assert warehouse.value(waiting) == 1
        other.commit()
    run.join()
    assert reports[0].error is None


@pytest.mark.usefixtures("loaded")
def test_run_killed_before_publishing_gold_is_completed_by_the_next(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_snapshot(3, loads.rows_of_day(3, city="Reno"))
    gold = warehouse.fingerprint("gold.lead_quality_matching")
    kill_before_publication(run_pipeline, monkeypatch)
    assert "lead_quality_matching_03" in warehouse.staging_tables()
    assert warehouse.fingerprint("gold.lead_quality_matching") == gold

    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from gold.lead_quality_matching where city = 'Reno'") == 7
    assert warehouse.staging_tables() == []


@pytest.mark.usefixtures("loaded")
def test_days_are_published_together_with_their_anomalies(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"Set": "0"} for row in loads.rows_of_day(1) * 10]
    bucket.put_snapshot(3, rows)
    gold = warehouse.gold()
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(anomalies, "describe_findings", loads.raise_interrupt)
        run_pipeline()
    assert warehouse.gold() == gold

    assert run_pipeline().error is None
    found = "select metric from gold.data_anomalies where _partition_date = '2024-10-03'"
    assert ("appt_date_without_set_share",) in warehouse.rows(found)

    findings = '{"findings": ["a", "b", "c", "d", "e"]}'
    of_anomalies = "where table_name = 'gold.data_anomalies'"
    warehouse.rows(f"update meta.table_loads set facts = '{findings}' {of_anomalies}")
    assert any("5 metrics" in warning and ". a; b; c; d; e → " in warning for warning in run_pipeline().warnings)


@pytest.mark.usefixtures("loaded")
def test_run_after_a_killed_refresh_leaves_no_staging_tables(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = warehouse.contents()
    kill_before_publication(run_pipeline, monkeypatch, only_step=6, full_refresh=True)
    assert len([name for name in warehouse.staging_tables() if name.startswith("lead_quality_matching_")]) == len(
        loads.DAYS
    )

    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


def kill_before_publication(run_pipeline: Run, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(step6_insert_into_gold_tables, "publish_gold", loads.raise_interrupt)
        run_pipeline(**options)


@pytest.mark.usefixtures("loaded")
def test_unexpected_error_is_recorded_with_the_steps_before_it(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step6_insert_into_gold_tables, "prepare", lambda *_args, **_options: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run_pipeline()
    (recorded,) = warehouse.rows(
        "select status, exit_code, message, jsonb_path_query_array(steps, '$[*].step') from meta.pipeline_runs "
        "order by started_at desc limit 1"
    )
    assert recorded == ("failed", 1, "unexpected ZeroDivisionError\n  → see the output of the run", [1, 2, 3, 4, 5])
