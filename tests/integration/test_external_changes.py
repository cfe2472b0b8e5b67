"""The next run without options repairs externally modified tables; rows that cannot be stored are quarantined."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from support import Bucket, Warehouse, connection_arguments

from etl.engine.run_report import RunReport
from etl.warehouse import partitions

Run = Callable[..., RunReport]

ROWS = [{"LEADNUMBER": str(lead), "email_hash": f"e{lead}", "phone_hash": f"p{lead}"} for lead in range(1, 9)]


@pytest.fixture
def before(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> dict[str, str]:
    """Load two days with one ragged line and one invalid row; return the contents of all tables."""
    bucket.put_snapshot(1, ROWS)
    bucket.put_snapshot(2, [*ROWS, {"LEADNUMBER": "none"}])
    bucket.put("SFTP/data_2.csv", bucket.get("SFTP/data_2.csv") + b"ragged,line\n")
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(1, 9)])
    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from silver.rejected_rows") == 2
    return warehouse.contents()


@pytest.mark.parametrize(
    "change",
    [
        "delete from bronze.csv_snapshots where \"LEADNUMBER\" = '3'",
        "delete from silver.stg_csv_snapshots where lead_number = 3",
        "update silver.stg_csv_data_02 set city = 'Elsewhere' where lead_number = 3",
        "insert into silver.stg_csv_data_01 select * from silver.stg_csv_data_01 limit 1",
        "delete from silver.stg_leads_parquet where lead_uuid = 'lead 3'",
        "update bronze.leads_parquet set email_hash = 'x'",
        "delete from gold.lead_quality_matching where lead_number = 3",
        "update partitions.lead_quality_matching_02 set lead_quality_flag = 'High Quality'",
        "delete from silver.rejected_rows where step = 2",
        "delete from silver.rejected_rows where step = 3",
        "drop schema silver cascade",
        "alter table gold.lead_quality_matching detach partition partitions.lead_quality_matching_02",
        "alter table silver.stg_csv_snapshots detach partition silver.stg_csv_data_01",
        "alter table bronze.csv_snapshots detach partition partitions.csv_snapshots_01",
    ],
)
def test_external_change_is_repaired(
    before: dict[str, str], run_pipeline: Run, warehouse: Warehouse, change: str
) -> None:
    warehouse.rows(change)
    report = run_pipeline()
    assert report.error is None
    assert warehouse.contents() == before


@pytest.mark.parametrize(
    "column", ["gold.leads.city", "gold.lead_quality_matching.dispo", "silver.stg_csv_snapshots.zip"]
)
def test_dropped_column_is_added_and_filled_again(
    before: dict[str, str], run_pipeline: Run, warehouse: Warehouse, column: str
) -> None:
    table, name = column.rsplit(".", 1)
    values = f"select {name}, count(*) from {table} group by 1 order by 1"
    counts = warehouse.rows(values)
    warehouse.rows(f"alter table {table} drop column {name} cascade")
    assert run_pipeline().error is None
    assert warehouse.rows(values) == counts
    assert warehouse.contents().keys() == before.keys()


def test_added_column_is_kept(before: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    del before
    for table in ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching", "gold.leads"):
        warehouse.rows(f'alter table {table} add column note text, add column score int, add column "Seen at" date')
    bucket.put_snapshot(3, ROWS)
    assert run_pipeline().error is None
    counts = "select count(*), count(note), count(score) from gold.leads_as_of('2024-10-02')"
    assert warehouse.rows(counts) == [(8, 0, 0)]


@pytest.mark.parametrize("schema", ["gold", "bronze"])
def test_partitions_of_a_renamed_schema_are_not_dropped(
    before: dict[str, str], run_pipeline: Run, warehouse: Warehouse, schema: str
) -> None:
    table = {"gold": "lead_quality_matching", "bronze": "csv_snapshots"}[schema]
    rows = warehouse.value(f"select count(*) from {schema}.{table}")
    warehouse.rows(f"alter schema {schema} rename to kept")
    error = run_pipeline().error
    assert f"partitions.{table}_01 cannot be replaced: it is a partition of kept.{table}" in str(error)
    assert "set schema" in str(error.hint if error else None)
    assert warehouse.value(f"select count(*) from kept.{table}") == rows
    warehouse.rows("drop schema kept cascade")
    assert run_pipeline().error is None
    assert warehouse.contents() == before


@pytest.mark.parametrize("table", ["bronze.leads_parquet", "silver.stg_leads_parquet", "meta.affected_leads"])
def test_session_that_blocks_a_truncate_is_named(
    before: dict[str, str],
    bucket: Bucket,
    run_pipeline: Run,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    del before
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.2)
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(2, 9)])
    with closing(psycopg2.connect(**connection_arguments(warehouse.settings))) as reader, reader.cursor() as db:
        db.execute(f"select * from {table}")
        session = f"process {reader.info.backend_pid} of"
        error = str(run_pipeline().error)
    assert f"no lock on {table} after" in error
    assert session in error
    assert run_pipeline().error is None


def test_external_views_on_a_day_are_kept_and_show_its_new_rows(
    before: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del before
    days = ("partitions.csv_snapshots_01", "silver.stg_csv_data_01", "partitions.lead_quality_matching_01")
    for number, day in enumerate(days):
        warehouse.rows(f"create view public.theirs_{number} as select * from {day}")
    bucket.put_snapshot(1, ROWS[1:])
    for _ in range(2):
        assert run_pipeline(full_refresh=True).error is None
        for number, day in enumerate(days):
            assert warehouse.value(f"select count(*) from public.theirs_{number}") == 7
            assert warehouse.value(f"select count(*) from {day}") == 7
    assert run_pipeline().error is None
    warehouse.rows("delete from silver.stg_csv_data_01")
    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from public.theirs_1") == 7


def test_unmodified_day_is_not_loaded_again(before: dict[str, str], run_pipeline: Run, warehouse: Warehouse) -> None:
    del before
    ledger = "select table_name, load_id from meta.table_loads where table_name like '%\\_01' order by 1"
    loads = warehouse.rows(ledger)
    warehouse.rows("delete from silver.stg_csv_data_02 where lead_number = 3")
    assert run_pipeline().error is None
    assert warehouse.rows(ledger) == loads


def test_function_with_another_oid_as_after_pg_upgrade_rebuilds_nothing(
    before: dict[str, str], run_pipeline: Run, warehouse: Warehouse
) -> None:
    definition = warehouse.value("select pg_get_functiondef('silver.match_key'::regproc)")
    warehouse.rows("drop function silver.match_key cascade")
    warehouse.rows(definition)
    loads = warehouse.rows("select table_name, load_id from meta.table_loads order by 1")
    assert run_pipeline().error is None
    assert warehouse.rows("select table_name, load_id from meta.table_loads order by 1") == loads
    assert warehouse.contents() == before


def test_replaced_function_is_restored(before: dict[str, str], run_pipeline: Run, warehouse: Warehouse) -> None:
    definition = warehouse.value("select pg_get_functiondef('silver.match_key'::regproc)")
    warehouse.rows("drop function silver.match_key cascade")
    warehouse.rows("create function silver.match_key(hash text) returns text language sql immutable return 'x' || hash")
    assert run_pipeline().error is None
    assert warehouse.value("select pg_get_functiondef('silver.match_key'::regproc)") == definition
    assert warehouse.contents() == before


def test_invalid_leads_are_quarantined(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, ROWS)
    bucket.put_leads([("lead 1", "p1", "e1"), ("lead\0 2", "p2", "e2"), ("lead 3", "p3", "e" * 256)])
    report = run_pipeline()
    assert report.error is None
    step_2 = report.steps[1].result
    assert (step_2.rows_in - step_2.rows_out, step_2.rejected) == (1, {"NUL byte": 1})
    assert warehouse.rows("select lead_uuid from silver.stg_leads_parquet") == [("lead 1",)]
    assert warehouse.rows(
        "select step, _source_file, _source_row, _partition_date, reason from silver.rejected_rows order by step"
    ) == [
        (2, "parquet/leads.parquet", 2, None, "NUL byte"),
        (3, "parquet/leads.parquet", 3, None, "an id is longer than 255 characters"),
    ]
