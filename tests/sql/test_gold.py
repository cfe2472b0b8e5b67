"""Each table and view of gold, from a folder of given and expected rows.

`<object>/given/<table>.csv` names the columns that matter, `<object>/expected.csv` the columns that are compared, with
rows in any order. An empty cell is NULL.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2 import sql
from support import connection_arguments, empty_warehouse

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings
from etl.warehouse import gold_models, row_versions
from etl.warehouse.partitions import table_columns
from etl.warehouse.sql_scripts import quote_identifier, quote_identifiers, run_sql
from etl.warehouse.tables import GOLD_LEADS

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

FOLDERS = sorted(folder for folder in Path(__file__).parent.iterdir() if (folder / "expected.csv").exists())
MATCHING = "gold.lead_quality_matching"
GRADED = {
    "appointment_scheduled": "false",
    "demo_scheduled": "false",
    "email_match": "true",
    "phone_match": "true",
    "lead_quality_flag": "Low Quality",
}
NEVER_NULL = {MATCHING: GRADED, "gold.lead_quality_current": GRADED | {"_partition_date": "2024-10-01"}}
"""Values of columns that are not given and must not be NULL."""


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """Yield a warehouse with all tables and views, and without rows."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        assert run_steps(settings, [STEPS[0], STEPS[3], STEPS[4]]).error is None
        yield settings


@pytest.fixture
def db(settings: Settings) -> Iterator[Cursor]:
    """Yield a cursor; roll back after the test."""
    connection = psycopg2.connect(**connection_arguments(settings))
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_given_rows_produce_the_expected_rows(db: Cursor, folder: Path) -> None:
    leads_first = sorted((folder / "given").glob("*.csv"), key=lambda file: file.stem != GOLD_LEADS)
    days = {day for file in leads_first for day in put(db, file)}
    target = f"gold.{folder.name}"
    if target == MATCHING:
        match(db, days)
    if target in gold_models.MODELS:
        fill_tables_of_leads(db, days)
    columns, expected = read(folder / "expected.csv")
    assert rows_of(db, target, columns) == sorted(expected)


def test_each_table_and_view_of_gold_has_a_folder(db: Cursor) -> None:
    db.execute("select relname from pg_class where relnamespace = 'gold'::regnamespace and relkind in ('r', 'p', 'v')")
    filled_by_python = {"data_anomalies"}
    assert {name for (name,) in db.fetchall()} - filled_by_python == {folder.name for folder in FOLDERS}


def test_each_table_view_and_column_of_the_warehouse_has_a_comment(db: Cursor) -> None:
    db.execute(
        """
        select format('%I.%I %s', nspname, relname, attname)
        from pg_class
        inner join pg_namespace on pg_namespace.oid = relnamespace
        left join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        where
            nspname in ('bronze', 'silver', 'gold', 'meta')
            and relkind in ('r', 'p', 'v')
            and not relispartition
            and (obj_description(pg_class.oid, 'pg_class') is null or col_description(pg_class.oid, attnum) is null)
        """
    )
    assert db.fetchall() == []


def put(db: Cursor, file: Path) -> set[str]:
    """COPY the rows of a file into its table. Returns their days."""
    table = file.stem
    columns, rows = read(file)
    if table in NEVER_NULL:
        rest = {name: value for name, value in NEVER_NULL[table].items() if name not in columns}
        columns, rows = [*columns, *rest], [(*row, *rest.values()) for row in rows]
    if table == MATCHING:
        columns, rows = [*columns, "lead_match_id"], [(*row, str(number)) for number, row in enumerate(rows)]
    is_by_day = table in (MATCHING, "silver.stg_csv_snapshots")
    days = {row[columns.index("_partition_date")] for row in rows} if is_by_day else set()
    for number, day in enumerate(sorted(days)):
        db.execute(
            sql.SQL("create table {} partition of {} for values in ({})").format(
                sql.Identifier("staging", f"given_{table.split('.')[1]}_{number}"),
                quote_identifier(table),
                sql.Literal(day),
            )
        )
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    names = quote_identifiers(columns)
    db.copy_expert(sql.SQL("copy {} ({}) from stdin (format csv)").format(quote_identifier(table), names), text)
    return days


def version(db: Cursor, days: set[str]) -> list[sql.Composable]:
    """Version the days as step 6 does. Returns the tables of the days."""
    db.execute(HASH_ROWS)
    row_versions.compare_leads(db)
    tables = [quote_identifier(f"staging.given_stg_csv_snapshots_{number}") for number in range(len(days))]
    for number, day in enumerate(sorted(days)):
        row_versions.apply_snapshot(db, tables[number], date.fromisoformat(day), number)
    return tables


HASH_ROWS = sql.SQL(
    "update silver.stg_csv_snapshots set _row_hash = hashtextextended(jsonb_build_array({})::text, 0)"
).format(row_versions.COLUMNS)


def match(db: Cursor, days: set[str]) -> None:
    """Match each day as step 6 does."""
    for number, (day, snapshot) in enumerate(zip(sorted(days), version(db, days), strict=True)):
        target = sql.Identifier("staging", f"matched_{number}")
        db.execute(
            sql.SQL("create table {} partition of {} for values in ({})").format(
                target, quote_identifier(MATCHING), sql.Literal(day)
            )
        )
        model = gold_models.model_query(MATCHING, snapshot=snapshot)
        run_sql(db, gold_models.INSERT_DAY, target=target, columns=gold_models.COLUMNS, model=model)


def fill_tables_of_leads(db: Cursor, days: set[str]) -> None:
    """Fill the tables of leads as step 6 does, when they are empty."""
    version(db, days)
    row_versions.add_all_leads(db)
    for table in gold_models.AFFECTED:
        gold_models.create_from_model(db, table)
    run_sql(db, "gold/register_appointments.sql")
    for table in gold_models.BUILD_ORDER:
        gold_models.create_from_model(db, table)
    for table in gold_models.MODELS:
        staging = table.replace("gold.", "staging.")
        columns = quote_identifiers(table_columns(db, staging))
        db.execute(
            sql.SQL("insert into {0} ({1}) select {1} from {2}").format(
                quote_identifier(table), columns, quote_identifier(staging)
            )
        )


def rows_of(db: Cursor, table: str, columns: list[str]) -> list[tuple[str, ...]]:
    """Return the rows of a table, as COPY writes them, sorted."""
    text = io.StringIO()
    names = quote_identifiers(columns)
    query = sql.SQL("copy (select {} from {}) to stdout (format csv)").format(names, quote_identifier(table))
    db.copy_expert(query, text)
    return sorted(map(tuple, csv.reader(io.StringIO(text.getvalue()))))


def read(file: Path) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the header and the rows of a file, without the blanks that align them."""
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True) if row]
    return header, [tuple(row) for row in rows]
