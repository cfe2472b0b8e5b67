"""Changes that users make between two steps: the next steps lose no row, no id and no reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import loads
import psycopg2
import pytest
from support import WAITING_SESSIONS, Bucket, Warehouse, connection_arguments

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings

Run = Callable[..., RunReport]


@pytest.mark.usefixtures("loaded")
def test_day_of_gold_has_its_rows_after_a_column_of_silver_was_dropped(run_pipeline: Run, warehouse: Warehouse) -> None:
    rows = "select lead_uuid, lead_number, city, _partition_date from gold.lead_quality_matching order by 4, 2"
    before = warehouse.rows(rows)
    warehouse.rows("alter table silver.stg_csv_snapshots drop column zip cascade")
    assert run_pipeline(only_step=1).error is None
    warehouse.rows("delete from gold.lead_quality_matching where lead_number = 3")
    assert run_pipeline(from_step=5).error is None
    assert warehouse.rows(rows) == before
    assert run_pipeline().error is None
    assert warehouse.rows(rows) == before


@pytest.mark.usefixtures("loaded")
def test_days_that_wait_for_step_4_get_a_column_that_was_added_to_silver(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    bucket.put_snapshot(4, loads.rows_of_day(4))
    assert run_pipeline(only_step=2).error is None
    assert run_pipeline(only_step=3, full_refresh=True).error is None
    warehouse.rows("alter table silver.stg_csv_snapshots add column note text")
    report = run_pipeline()
    assert (report.error, report.warnings) == (None, [])
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where note is null") == 22
    assert warehouse.value("select count(*) from gold.lead_quality_matching where lead_uuid is not null") == 16


@pytest.mark.usefixtures("emptied")
def test_user_of_an_appointment_is_kept_when_gold_leads_is_dropped(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    row = {"LEADNUMBER": "1", "email_hash": "e1", "Appt Date": "10/03/2024  1:00PM", "Set": "1"}
    bucket.put_snapshot(1, [row])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run_pipeline().error is None
    gold = warehouse.rows("select * from gold.leads")
    warehouse.rows("insert into gold.users (user_id) values (5)")
    warehouse.rows("update gold.appointments set user_id = 5")
    warehouse.rows("drop table gold.leads cascade")
    assert run_pipeline().error is None
    assert warehouse.rows("select lead_uuid, user_id from gold.appointments") == [("u1", 5)]
    assert warehouse.rows("select * from gold.leads") == gold


@pytest.mark.usefixtures("loaded")
def test_lead_that_is_gone_from_the_backend_leaves_gold_even_if_gold_leads_was_dropped(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    loads.put_leads(bucket, 3)
    warehouse.rows("drop table gold.leads cascade")
    assert run_pipeline().error is None
    for table in ("leads", "lead_quality_current", "lead_status_history"):
        assert warehouse.value(f"select count(distinct lead_uuid) from gold.{table}") == 3


@pytest.mark.usefixtures("loaded")
def test_etag_of_a_day_of_gold_is_that_of_the_file_from_which_it_was_built(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    etag = "select facts ->> 'etag' from meta.table_loads where table_name = 'partitions.lead_quality_matching_02'"
    before = warehouse.value(etag)
    bucket.put_snapshot(2, loads.rows_of_day(2, city="Reno"))
    assert run_pipeline(only_step=2).error is None
    assert run_pipeline(from_step=5, full_refresh=True).error is None
    assert warehouse.value(etag) == before
    assert run_pipeline().error is None
    current = "select etag from meta.ingested_files where s3_key = 'SFTP/data_2.csv'"
    assert before != warehouse.value(etag) == warehouse.value(current)


@pytest.mark.usefixtures("loaded")
def test_accepted_change_of_an_unknown_metric_is_a_warning(run_pipeline: Run, warehouse: Warehouse) -> None:
    warehouse.rows("insert into meta.accepted_changes values ('locaton_null_share', '2024-10-02', 'misspelt')")
    warehouse.rows("insert into meta.accepted_changes values ('location_null_share', '2024-10-02', '')")
    (warning,) = run_pipeline().warnings
    assert "should name a metric of gold.daily_metrics. locaton_null_share → correct or delete these rows" in warning


@pytest.mark.usefixtures("loaded")
def test_waiting_for_a_reader_of_one_view_does_not_block_readers_of_others(
    settings: Settings, run_pipeline: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("update meta.definitions set digest = 'x' where script like 'gold/create_gold_views.sql%'")
    reports: list[RunReport] = []
    run = threading.Thread(target=lambda: reports.append(run_pipeline(only_step=5)))
    with closing(psycopg2.connect(**connection_arguments(settings))) as reader, reader.cursor() as db:
        db.execute("select count(*) from gold.leads")
        run.start()
        deadline = time.monotonic() + 30
        while not warehouse.rows(WAITING_SESSIONS):
            assert time.monotonic() < deadline
        for _ in range(20):
            began = time.monotonic()
            warehouse.rows("set statement_timeout = '2s'; select count(*) from gold.lead_quality_matching")
            assert time.monotonic() - began < 1.5
            time.sleep(0.05)
        assert run.is_alive()
    run.join()
    assert reports[0].error is None


@pytest.mark.usefixtures("loaded")
def test_loads_of_an_earlier_version_get_the_etag_of_their_file(run_pipeline: Run, warehouse: Warehouse) -> None:
    etags = (
        "select table_name, facts ->> 'etag' from meta.table_loads "
        "where parent_table in ('bronze.csv_snapshots', 'silver.stg_csv_snapshots', 'gold.lead_quality_matching') "
        "order by table_name"
    )
    before = warehouse.rows(etags)
    assert None not in [etag for _, etag in before]
    warehouse.rows("update meta.table_loads set facts = facts - 'etag'; delete from meta.migrations where number = 6")
    assert run_pipeline().error is None
    assert warehouse.rows(etags) == before
