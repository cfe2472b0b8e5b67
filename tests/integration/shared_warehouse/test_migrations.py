"""Migrations of schema meta are applied once, in order, all or none; a warehouse of a newer version is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from support import Warehouse, connection_arguments, drop_schemas

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings
from etl.warehouse import migrations, partitions
from etl.warehouse.migrations import known_migrations

OLD_RUN = str(uuid.uuid4())
OLD_META_TABLES = (migrations.MIGRATIONS / "0001_meta_tables.sql").read_text(encoding="utf-8")
"""SQL that the previous version executed at the start of each run."""


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    drop_schemas(settings)
    return Warehouse(settings)


@pytest.fixture
def old_warehouse(warehouse: Warehouse) -> Warehouse:
    """A warehouse of the previous version, without meta.migrations."""
    warehouse.rows(OLD_META_TABLES)
    warehouse.rows(
        "insert into meta.pipeline_runs (run_id, version, arguments, status) values (%s, '0.1.0', '{}', 'complete')",
        OLD_RUN,
    )
    warehouse.rows(
        "insert into meta.table_loads (table_name, parent_table, load_id, built_from, table_oid, row_count, run_id) "
        "values ('silver.stg_leads_parquet', 'silver.stg_leads_parquet', 7, '{3}', 1, 5, %s)",
        OLD_RUN,
    )
    return warehouse


@pytest.fixture
def begin(settings: Settings) -> Callable[[], RunReport]:
    """Return a function that runs step 1."""
    return lambda: run_steps(settings, STEPS[:1])


def applied(warehouse: Warehouse) -> list[str]:
    return [f"{number:04}_{name}" for number, name in warehouse.rows("select number, name from meta.migrations")]


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [int(migration.split("_")[0]) for migration in known_migrations()]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_fresh_warehouse_gets_all_migrations(warehouse: Warehouse, begin: Callable[[], RunReport]) -> None:
    assert begin().error is None
    assert applied(warehouse) == known_migrations()
    assert warehouse.rows("select code_version from meta.table_loads") == []


def test_warehouse_of_the_previous_version_keeps_its_rows(
    old_warehouse: Warehouse, begin: Callable[[], RunReport]
) -> None:
    assert begin().error is None
    assert applied(old_warehouse) == known_migrations()
    ledger = old_warehouse.rows("select table_name, load_id, built_from, code_version from meta.table_loads")
    assert ledger == [("silver.stg_leads_parquet", 7, [3], None)]
    runs = old_warehouse.rows("select run_id::text, status from meta.pipeline_runs order by started_at")
    assert runs[0] == (OLD_RUN, "complete")
    assert len(runs) == 2


def test_second_run_applies_nothing(warehouse: Warehouse, begin: Callable[[], RunReport]) -> None:
    assert begin().error is None
    catalog = (
        "select relname, xmin::text from pg_class where relnamespace = 'meta'::regnamespace "
        "union all select name, applied_at::text from meta.migrations order by 1"
    )
    before = warehouse.rows(catalog)
    assert begin().error is None
    assert warehouse.rows(catalog) == before


def test_killed_migration_leaves_nothing_and_the_next_run_applies_all(
    old_warehouse: Warehouse, begin: Callable[[], RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(_message: str, migration: object) -> None:
        if migration == known_migrations()[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migrations.log, "info", kill)
        with pytest.raises(KeyboardInterrupt):
            begin()
    assert old_warehouse.value("select to_regclass('meta.migrations')") is None
    columns = old_warehouse.rows(
        "select column_name from information_schema.columns where table_schema = 'meta' and table_name = 'table_loads'"
    )
    assert ("code_version",) not in columns
    assert begin().error is None
    assert applied(old_warehouse) == known_migrations()


def test_warehouse_of_a_newer_version_is_refused_and_not_changed(
    warehouse: Warehouse, begin: Callable[[], RunReport]
) -> None:
    assert begin().error is None
    warehouse.rows("insert into meta.migrations (number, name) values (9999, 'of_the_future')")
    report = begin()
    assert report.exit_code == 1
    assert report.error is not None
    assert "upgraded by a newer version" in str(report.error)
    assert "9999_of_the_future" in str(report.error)
    assert "run that version" in str(report.error)
    assert warehouse.value("select count(*) from meta.pipeline_runs") == 1


# --- 0003_row_versions ------------------------------------------------------------------------------------------------

REGISTRY = "select appointment_id, lead_uuid, appointment_date::text from meta.appointment_ids order by 1"
GOLD_APPOINTMENTS = """
    create schema gold;
    create table gold.appointments (
        appointment_id int primary key, lead_uuid varchar(255) not null, appointment_date timestamp not null,
        status varchar(50), user_id int, unique (lead_uuid, appointment_date)
    );
    insert into gold.appointments values (3, 'u1', '2024-10-05 13:00'), (7, 'u2', '2024-10-06')
"""
KNOWN_IDS = [(3, "u1", "2024-10-05 13:00:00"), (7, "u2", "2024-10-06 00:00:00")]


def add_load(warehouse: Warehouse, table: str, parent: str, metrics: str = "{}") -> None:
    warehouse.rows(
        "insert into meta.table_loads "
        "(table_name, parent_table, load_id, built_from, table_oid, row_count, facts, run_id) "
        "values (%s, %s, 8, '{}', 1, 5, %s, %s)",
        table,
        parent,
        metrics,
        OLD_RUN,
    )


@pytest.mark.parametrize(
    ("has_appointments", "last_id", "expected"),
    [
        (True, 9, [*KNOWN_IDS, (9, None, None)]),
        (True, 7, KNOWN_IDS),
        (True, None, KNOWN_IDS),
        (False, 9, [(9, None, None)]),
        (False, None, []),
    ],
)
def test_registry_of_appointment_ids_contains_existing_ids(
    old_warehouse: Warehouse,
    begin: Callable[[], RunReport],
    has_appointments: bool,
    last_id: int | None,
    expected: list[tuple[object, ...]],
) -> None:
    if has_appointments:
        old_warehouse.rows(GOLD_APPOINTMENTS)
    if last_id:
        add_load(old_warehouse, "gold.appointments", "gold.appointments", json.dumps({"last_id": last_id}))
    assert begin().error is None
    assert old_warehouse.rows(REGISTRY) == expected
    assert old_warehouse.rows("select * from meta.affected_leads") == []


def test_staging_tables_of_the_previous_version_are_dropped(
    old_warehouse: Warehouse, begin: Callable[[], RunReport]
) -> None:
    old_warehouse.rows(
        """
        create schema staging;
        create table staging.spans (piece int) partition by list (piece);
        create table staging.spans_0 partition of staging.spans for values in (0);
        create table staging.lead_keys (key text);
        create table staging.lead_pairs (key text);
        create table staging.touched_leads (lead_uuid text);
        create table staging.stg_csv_data_01 (lead_number int)
        """
    )
    add_load(old_warehouse, "staging.spans_0", "staging.spans")
    add_load(old_warehouse, "staging.lead_keys", "staging.leads")
    add_load(old_warehouse, "staging.stg_csv_data_01", "staging.stg_csv_data")
    assert begin().error is None
    assert old_warehouse.rows("select tablename from pg_tables where schemaname = 'staging'") == [("stg_csv_data_01",)]
    loads = old_warehouse.rows("select table_name from meta.table_loads order by 1")
    assert loads == [("silver.stg_leads_parquet",), ("staging.stg_csv_data_01",)]


# --- Locks ------------------------------------------------------------------------------------------------------------


def test_session_that_blocks_a_migration_is_named(
    old_warehouse: Warehouse, begin: Callable[[], RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.2)
    with closing(psycopg2.connect(**connection_arguments(old_warehouse.settings))) as reader, reader.cursor() as db:
        db.execute("select * from meta.table_loads")
        report = begin()
        assert f"process {reader.info.backend_pid} of" in str(report.error)
        reader.rollback()
    assert begin().error is None
