"""Views, references and readers of gold tables are kept across runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import psycopg2
import pytest
from oracle import assert_gold_equals_oracle
from random_snapshots import random_day
from support import Bucket, Warehouse, connection_arguments

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse.partitions import acquire_exclusive_lock
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]
TABLES = ("gold.leads", "gold.lead_quality_current", "gold.appointments", "gold.lead_status_history")

pytestmark = pytest.mark.usefixtures("emptied")


def test_run_completes_under_repeatable_read(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, settings: Settings
) -> None:
    del loaded_contents
    isolation = f"alter database {settings.postgres_db} {{}} default_transaction_isolation"
    warehouse.rows(isolation.format("set") + " = 'repeatable read'")
    close_connections()
    try:
        bucket.put_snapshot(6, random_day(random.Random("new")))
        assert run_pipeline().error is None
        assert_gold_equals_oracle(warehouse.rows)
    finally:
        warehouse.rows(isolation.format("reset"))
        close_connections()


def test_external_views_on_gold_tables_are_kept(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded_contents
    for number, table in enumerate((*TABLES, "gold.conversion_funnel_per_state")):
        warehouse.rows(f"create or replace view public.on_gold_{number} as select * from {table}")
    bucket.put_snapshot(6, random_day(random.Random("new")))
    assert run_pipeline().error is None
    assert run_pipeline(full_refresh=True).error is None
    for number, table in enumerate(TABLES):
        assert warehouse.rows(f"select count(*) from public.on_gold_{number}") == warehouse.rows(
            f"select count(*) from {table}"
        )


def test_open_reader_transaction_sees_one_state_of_gold(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    """Attaching partitions does not follow the snapshot of a reader: the publication waits for the reader."""
    del loaded_contents
    of_days = "select count(*), max(_partition_date), count(distinct lead_uuid) from gold.lead_quality_matching"
    before = warehouse.rows(of_days)
    reports = []
    connection = psycopg2.connect(**connection_arguments(warehouse.settings))
    try:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as reader:
            reader.execute("select count(*) from gold.leads")
            bucket.put_snapshot(6, random_day(random.Random("new")))
            run = threading.Thread(target=lambda: reports.append(run_pipeline()))
            run.start()
            run.join(timeout=2)
            assert run.is_alive(), "the run waits"
            reader.execute(of_days)
            assert reader.fetchall() == before
    finally:
        connection.close()
    run.join()
    assert [report.error for report in reports] == [None]
    assert warehouse.rows(of_days) != before


def test_partition_added_by_users_is_kept(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded_contents
    warehouse.rows("create table public.other_days_2023 partition of gold.lead_quality_matching default")
    bucket.put_snapshot(6, random_day(random.Random("new")))
    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from public.other_days_2023") == 0


def test_lock_timeout_of_the_session_is_set_again_after_an_exclusive_lock(settings: Settings) -> None:
    """A connection pooler can discard the startup options, and with them the default that would be restored."""
    with psycopg2.connect(**connection_arguments(settings)) as connection, connection.cursor() as db:
        db.execute("create temporary table locked ()")
        acquire_exclusive_lock(db, "pg_temp.locked")
        db.execute("show lock_timeout")
        assert db.fetchone() == ("30s",)
    connection.close()


def test_external_foreign_key_to_leads_is_kept(
    loaded_contents: dict[str, str], run_pipeline: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("create table public.notes (lead_uuid varchar(255) references gold.leads)")
    try:
        warehouse.rows("truncate gold.leads cascade")
        assert run_pipeline().error is None
        assert warehouse.contents() == loaded_contents
        assert warehouse.value("select count(*) from pg_constraint where conrelid = 'public.notes'::regclass") == 1
    finally:
        warehouse.rows("drop table public.notes")
