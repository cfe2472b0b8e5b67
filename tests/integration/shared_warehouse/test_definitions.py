"""Tables and views are created once, and again only if their definition changes or if they were modified."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import psycopg2
import pytest
from support import Warehouse, connection_arguments, drop_schemas

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings
from etl.warehouse import partitions

VIEW = "gold.lead_quality_distribution"


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    drop_schemas(settings)
    assert define_all(settings).error is None
    return Warehouse(settings)


def define_all(settings: Settings) -> RunReport:
    return run_steps(settings, [STEPS[0], STEPS[4]])


def catalog_rows(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """Return the transaction that wrote each table, view and comment."""
    return warehouse.rows(
        """
        select oid::text, xmin::text from pg_class where relnamespace = any('{bronze,silver,gold}'::regnamespace[])
        union all
        select objoid || ' ' || objsubid, xmin::text from pg_description
        where objoid in (select oid from pg_class where relnamespace = any('{bronze,silver,gold}'::regnamespace[]))
        order by 1
        """
    )


def test_second_run_writes_nothing_to_the_catalog(settings: Settings, warehouse: Warehouse) -> None:
    before = catalog_rows(warehouse)
    assert len(before) > 100
    assert define_all(settings).error is None
    assert catalog_rows(warehouse) == before


@pytest.mark.parametrize(
    "modification",
    [
        f"drop view {VIEW}",
        f"create or replace view {VIEW} as select 'none'::varchar(50) as lead_quality_flag, 0::bigint as lead_count, "
        "0::bigint as row_count, 0::bigint as current_lead_count",
        "update meta.definitions set digest = 'of another version'",
    ],
)
def test_modified_view_is_recreated(settings: Settings, warehouse: Warehouse, modification: str) -> None:
    warehouse.rows(modification)
    assert define_all(settings).error is None
    flags = warehouse.rows(f"select lead_quality_flag from {VIEW} order by 1")
    assert flags == [("High Quality",), ("Low Quality",), ("Medium Quality",)]


@pytest.mark.parametrize("table", ["bronze.leads_parquet", "silver.stg_leads_parquet", "gold.lead_quality_matching"])
def test_dropped_trigger_is_recreated(settings: Settings, warehouse: Warehouse, table: str) -> None:
    warehouse.rows(f"drop trigger note_change on {table}")
    assert define_all(settings).error is None
    triggers = f"select tgname from pg_trigger where tgrelid = '{table}'::regclass and not tgisinternal"
    assert warehouse.rows(triggers) == [("note_change",)]


def test_views_of_the_first_version_are_replaced(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows(f"drop view gold.match_scenarios, {VIEW}; delete from meta.definitions")
    warehouse.rows(
        f"""
        create view gold.match_scenarios as
        select case when email_match then 'both' else 'none' end as scenario, count(*) as row_count,
            count(distinct lead_uuid) as lead_count
        from gold.lead_quality_matching group by 1;
        create view {VIEW} as
        select lead_quality_flag, count(distinct lead_uuid) as lead_count, count(*) as row_count
        from gold.lead_quality_matching group by lead_quality_flag
        """
    )
    assert define_all(settings).error is None
    assert warehouse.value("select count(*) from gold.match_scenarios") == 4


def test_view_with_another_order_of_columns_is_replaced(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows(
        "drop view gold.data_freshness; delete from meta.definitions; "
        "create view gold.data_freshness as select null::date as latest_snapshot, now() as last_complete_run"
    )
    assert define_all(settings).error is None
    assert warehouse.value("select missing_days from gold.data_freshness") is None


def test_empty_tables_in_a_publication_are_defined_again(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows(
        "create publication of_the_test for table gold.lead_status_history; "
        "update meta.definitions set digest = 'of another version'"
    )
    try:
        assert define_all(settings).error is None
    finally:
        warehouse.rows("drop publication of_the_test")


def test_replacing_a_view_waits_for_its_reader_and_delays_no_other_reader(
    settings: Settings, warehouse: Warehouse
) -> None:
    warehouse.rows("update meta.definitions set digest = 'of another version'")
    reports: list[RunReport] = []
    run = threading.Thread(target=lambda: reports.append(define_all(settings)))
    with closing(psycopg2.connect(**connection_arguments(settings))) as reader, reader.cursor() as db:
        db.execute(f"select * from {VIEW}")
        run.start()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            warehouse.rows(f"set statement_timeout = '1s'; select * from {VIEW}")
        assert run.is_alive(), "the view cannot be replaced while it is read"
        reader.rollback()
    run.join()
    assert reports[0].error is None
    assert warehouse.value("select count(*) from meta.definitions where digest = 'of another version'") == 0


def row_hash_columns(warehouse: Warehouse) -> list[tuple[str, str]]:
    return warehouse.rows(
        "select attrelid::regclass::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attname = '_row_hash' and attrelid::regclass::text like 'silver.stg_csv%' order by 1"
    )


def test_missing_column_is_added_with_null_values(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows(
        "alter table silver.stg_csv_snapshots drop column _row_hash; "
        "create table silver.stg_csv_data_01 partition of silver.stg_csv_snapshots for values in ('2024-10-01'); "
        "insert into silver.stg_csv_snapshots (lead_number, _partition_date) values (1, '2024-10-01')"
    )
    assert row_hash_columns(warehouse) == []
    assert define_all(settings).error is None
    assert row_hash_columns(warehouse) == [("silver.stg_csv_data_01", "bigint"), ("silver.stg_csv_snapshots", "bigint")]
    assert warehouse.rows("select lead_number::text, _row_hash from silver.stg_csv_data_01") == [("1", None)]
    before = catalog_rows(warehouse)
    assert define_all(settings).error is None
    assert catalog_rows(warehouse) == before


def test_session_that_reads_a_table_without_the_column_is_named(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.2)
    warehouse.rows("alter table silver.stg_csv_snapshots drop column _row_hash")
    with closing(psycopg2.connect(**connection_arguments(settings))) as reader, reader.cursor() as db:
        db.execute("select * from silver.stg_csv_snapshots")
        assert f"process {reader.info.backend_pid} of" in str(define_all(settings).error)
        reader.rollback()
    assert define_all(settings).error is None
    assert row_hash_columns(warehouse) == [("silver.stg_csv_snapshots", "bigint")]


def test_reader_does_not_delay_a_run_that_adds_no_column(settings: Settings, warehouse: Warehouse) -> None:
    with closing(psycopg2.connect(**connection_arguments(warehouse.settings))) as reader, reader.cursor() as db:
        db.execute("select * from silver.stg_csv_snapshots")
        assert define_all(settings).error is None
        reader.rollback()
