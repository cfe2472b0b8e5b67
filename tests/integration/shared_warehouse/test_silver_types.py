"""Types of silver are declared in one place; step 4 applies them to all existing and later days, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from support import Bucket, Warehouse, connection_arguments, drop_schemas

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS, choose_steps
from etl.utils.columns import MAX_LENGTH, SILVER_COLUMNS
from etl.utils.utils_connection import Settings
from etl.warehouse import partitions, sql_scripts
from etl.warehouse.silver_types import DECLARATION
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]
Declare = Callable[[str, str], None]
DAYS = ("silver.stg_csv_data_01", "silver.stg_csv_data_02")
ALL_TABLES = ("silver.stg_csv_snapshots", *DAYS)
TYPE_OF = (
    "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s "
    "and not attisdropped"
)
LEDGER = "select table_name, load_id, row_count, changed, run_id from meta.table_loads order by 1"
FILES = (
    "select oid::regclass::text, relfilenode, xmin::text from pg_class "
    "where relnamespace = 'silver'::regnamespace and relkind in ('r', 'p') order by 1"
)


@pytest.fixture
def run(settings: Settings) -> Run:
    return lambda *steps, **options: run_steps(settings, [STEPS[n - 1] for n in steps] or choose_steps(), **options)


@pytest.fixture
def warehouse(settings: Settings, bucket: Bucket, run: Run) -> Iterator[Warehouse]:
    """Load two days up to gold."""
    drop_schemas(settings)
    bucket.clear()
    for number in (1, 2):
        bucket.put_snapshot(number, [{"LEADNUMBER": str(lead), "Dispo": "Data"} for lead in range(5)])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run().error is None
    yield Warehouse(settings)
    Warehouse(settings).rows("drop schema if exists reporting cascade")


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Return a function that declares another type for a column: `declare("dispo", "varchar(80)")`."""
    types: dict[str, str] = {}
    read_script = sql_scripts.read_script

    def read(script: str) -> str:
        text = read_script(script)
        for column, data_type in types.items() if script == DECLARATION else ():
            before, _, after = text.partition(f"('{column}', '")
            text = f"{before}('{column}', '{data_type}'{after[after.index(')', after.index(chr(39))) :]}"
        return text

    monkeypatch.setattr(sql_scripts, "read_script", read)
    return types.__setitem__


def types_of(warehouse: Warehouse, column: str, *tables: str) -> set[str]:
    return {warehouse.value(TYPE_OF, table, column) for table in tables or ALL_TABLES}


def test_step_1_creates_text_columns_and_step_4_applies_their_types(
    settings: Settings, warehouse: Warehouse, run: Run
) -> None:
    drop_schemas(settings)
    assert run(1).error is None
    columns = warehouse.rows(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attnum > 0 "
        "and attrelid in ('silver.stg_csv_snapshots'::regclass, 'silver.stg_leads_parquet'::regclass)"
    )
    assert len(columns) == len({*SILVER_COLUMNS, "_row_hash"}) + 4, "those of the snapshots and of the leads"
    other_types = {(name, kind) for name, kind in columns if kind != "text"}
    assert other_types == {("_partition_date", "date"), ("_row_hash", "bigint"), ("_source_row", "bigint")}
    assert run(4).error is None
    assert types_of(warehouse, "appt_date", "silver.stg_csv_snapshots") == {"timestamp without time zone"}
    assert types_of(warehouse, "lead_uuid", "silver.stg_leads_parquet") == {"character varying(255)"}


def test_changed_type_is_applied_to_existing_days_without_a_load(
    warehouse: Warehouse, run: Run, declare: Declare
) -> None:
    ledger, contents, files = warehouse.rows(LEDGER), warehouse.contents(), warehouse.rows(FILES)
    declare("dispo", "varchar(80)")
    declare("lead_uuid", "varchar(300)")
    assert run(4).error is None
    assert types_of(warehouse, "dispo") == {"character varying(80)"}
    assert types_of(warehouse, "lead_uuid", "silver.stg_leads_parquet") == {"character varying(300)"}
    assert warehouse.contents() == contents
    assert warehouse.rows(LEDGER) == ledger
    assert [row[:2] for row in warehouse.rows(FILES)] == [row[:2] for row in files], "a longer varchar needs no rewrite"
    assert run().error is None
    assert warehouse.rows(LEDGER) == ledger, "nothing is loaded or published again"


def test_changed_type_that_rewrites_rows_keeps_their_values(warehouse: Warehouse, run: Run, declare: Declare) -> None:
    ledger = warehouse.rows(LEDGER)
    declare("lead_number", "bigint")
    declare("appt_date", "date")
    assert run(4).error is None
    assert types_of(warehouse, "lead_number") == {"bigint"}
    assert types_of(warehouse, "appt_date") == {"date"}
    assert warehouse.rows(LEDGER) == ledger
    rows = warehouse.rows("select lead_number, appt_date::text from silver.stg_csv_data_02 order by 1")
    assert rows == [(number, "2022-12-13") for number in range(5)]


def test_day_that_is_added_later_has_the_changed_type(
    warehouse: Warehouse, run: Run, declare: Declare, bucket: Bucket
) -> None:
    declare("dispo", "varchar(80)")
    bucket.put_snapshot(3, [{}])
    assert run().error is None
    assert types_of(warehouse, "dispo", *ALL_TABLES, "silver.stg_csv_data_03") == {"character varying(80)"}


def test_second_run_alters_nothing(warehouse: Warehouse, run: Run) -> None:
    before = warehouse.rows(FILES)
    assert run().error is None
    assert warehouse.rows(FILES) == before


def test_staged_days_get_the_changed_type(warehouse: Warehouse, run: Run, declare: Declare, bucket: Bucket) -> None:
    bucket.put_snapshot(3, [{}])
    assert run(1, 2, 3).error is None
    declare("dispo", "varchar(80)")
    assert run(4).error is None
    assert types_of(warehouse, "dispo", *ALL_TABLES, "silver.stg_csv_data_03") == {"character varying(80)"}


@pytest.fixture
def row_contents(warehouse: Warehouse) -> str:
    """Add a content that belongs to no day."""
    warehouse.rows(
        "insert into silver.row_contents (dispo, _row_hash, valid_during) "
        "values ('longer than before', 1, '{[2024-09-01, 2024-09-02)}')"
    )
    return "silver.row_contents"


def test_row_contents_get_the_changed_type(warehouse: Warehouse, run: Run, declare: Declare, row_contents: str) -> None:
    rows = warehouse.rows(f"select * from {row_contents} order by _row_hash")
    declare("dispo", "varchar(80)")
    assert run(4).error is None
    assert types_of(warehouse, "dispo", row_contents) == {"character varying(80)"}
    assert warehouse.rows(f"select * from {row_contents} order by _row_hash") == rows


def test_row_contents_that_do_not_fit_are_rebuilt(
    warehouse: Warehouse, run: Run, declare: Declare, row_contents: str
) -> None:
    contents = warehouse.contents()
    declare("dispo", "varchar(4)")
    assert run(4).error is None
    assert types_of(warehouse, "dispo", *ALL_TABLES, row_contents) == {"character varying(4)"}
    assert warehouse.rows(f"select * from {row_contents}") == []
    assert run().error is None
    assert warehouse.contents() == contents


def test_types_are_applied_whatever_the_search_path_of_the_role(
    warehouse: Warehouse, run: Run, declare: Declare, row_contents: str
) -> None:
    warehouse.rows("alter role current_user set search_path = silver, gold")
    close_connections()
    try:
        warehouse.rows("update silver.stg_csv_data_02 set dispo = 'longer than before'")
        declare("dispo", "varchar(4)")
        assert run().error is None
    finally:
        warehouse.rows("alter role current_user reset search_path")
        close_connections()
    assert types_of(warehouse, "dispo", *ALL_TABLES, row_contents) == {"character varying(4)"}
    assert warehouse.rows(f"select dispo from {row_contents} where length(dispo) > 4") == []


@pytest.mark.parametrize("table", ["silver.stg_csv_snapshots", "silver.stg_csv_data_02"])
@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_view_that_uses_an_altered_column_is_named(
    warehouse: Warehouse, run: Run, declare: Declare, table: str, kind: str
) -> None:
    warehouse.rows(f"create schema reporting; create {kind} reporting.dispositions as select dispo, zip from {table}")
    before = warehouse.rows(FILES)
    declare("dispo", "varchar(80)")
    declare("city", "varchar(200)")
    error = str(run(4).error)
    assert "silver.stg_csv_snapshots cannot be altered" in error
    assert f"{kind} reporting.dispositions depends on column" in error
    assert "drop it, rerun, and create it again" in error
    assert warehouse.rows(FILES) == before
    warehouse.rows("drop schema reporting cascade")
    assert run(4).error is None
    assert types_of(warehouse, "dispo") == {"character varying(80)"}


def test_error_for_value_too_long_for_gold_names_create_gold_tables(
    warehouse: Warehouse, run: Run, declare: Declare, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAX_LENGTH, "dispo", 80)
    declare("dispo", "varchar(80)")
    bucket.put_snapshot(2, [{"LEADNUMBER": str(lead), "Dispo": "x" * 60} for lead in range(5)])
    error = str(run().error)
    assert "step 6, silver → gold" in error
    assert "declare the same type in sql_scripts/gold/create_gold_tables.sql" in error
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 10


def test_value_that_does_not_fit_is_reported_with_table_and_columns(
    warehouse: Warehouse, run: Run, declare: Declare
) -> None:
    before = warehouse.rows(FILES)
    declare("dispo", "varchar(2)")
    error = str(run().error)
    assert "silver.stg_csv_snapshots cannot be altered" in error
    assert "dispo from character varying(50) to varchar(2)" in error
    assert "value too long for type character varying(2)" in error
    declare("dispo", "int")
    assert 'invalid input syntax for type integer: "Data"' in str(run(4).error)
    assert warehouse.rows(FILES) == before


def test_replaced_day_need_not_fit_the_changed_type(warehouse: Warehouse, run: Run, declare: Declare) -> None:
    warehouse.rows("update silver.stg_csv_data_02 set dispo = 'longer than before'")
    declare("dispo", "varchar(4)")
    assert run().error is None
    assert types_of(warehouse, "dispo") == {"character varying(4)"}
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where dispo = 'Data'") == 10


@pytest.mark.parametrize(
    ("data_type", "message"),
    [("varcar(80)", 'type "varcar" does not exist'), ("timestamp(3)", "spell the type"), ("box", "cannot cast type")],
)
def test_invalid_declaration_is_reported(
    warehouse: Warehouse, run: Run, declare: Declare, data_type: str, message: str
) -> None:
    declare("appt_date", data_type)
    assert message in str(run(4).error)
    assert types_of(warehouse, "appt_date") == {"timestamp without time zone"}
    declare("appt_date", "timestamp(3) without time zone")
    assert run(4).error is None
    assert types_of(warehouse, "appt_date") == {"timestamp(3) without time zone"}


def test_session_that_reads_silver_is_named(
    warehouse: Warehouse, run: Run, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.2)
    declare("dispo", "varchar(80)")
    with closing(psycopg2.connect(**connection_arguments(warehouse.settings))) as reader, reader.cursor() as db:
        db.execute("select * from silver.stg_csv_data_02")
        assert f"process {reader.info.backend_pid} of" in str(run(4).error)
        reader.rollback()
    assert run(4).error is None


def test_table_of_another_owner_is_reported_with_a_hint_about_privileges(
    warehouse: Warehouse, run: Run, declare: Declare
) -> None:
    table = "silver.version_matches"
    warehouse.rows(
        "create role owner_of_matches; grant owner_of_matches to current_user; "
        "grant create on schema silver to owner_of_matches; "
        f"alter table {table} owner to owner_of_matches; grant all on {table} to current_user; "
        "revoke owner_of_matches from current_user"
    )
    try:
        declare("lead_uuid", "varchar(300)")
        error = str(run(4).error)
        assert "must be owner of table version_matches" in error
        assert "or run as the role that owns the tables" in error
    finally:
        warehouse.rows(
            f"grant owner_of_matches to current_user; alter table {table} owner to current_user; "
            "drop owned by owner_of_matches; drop role owner_of_matches"
        )
