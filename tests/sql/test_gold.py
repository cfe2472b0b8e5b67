"""Each table and view of gold, from a folder of given and expected rows.

`<object>/given/<table>.csv` names the columns that matter; `<object>/expected.csv` the ones that are looked at, its
rows in any order. An empty cell is NULL.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2 import sql
from support import connection_arguments, empty_warehouse

from etl.pipeline import STEPS
from etl.utils.day_tables import table_columns
from etl.utils.lead_tables import KEYS, OF_SPANS, PIECES
from etl.utils.run import run_steps
from etl.utils.state import GOLD_LEADS, LEAD_SPANS, SILVER_LEADS
from etl.utils.transactions import run_sql, script_text, table_name
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

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
"""What stands in columns that are not given and must not be NULL."""


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """A warehouse with all tables and views, and without rows."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        assert run_steps(settings, [STEPS[0], STEPS[4]]).error is None
        yield settings


@pytest.fixture
def db(settings: Settings) -> Iterator[Cursor]:
    """A transaction that leaves nothing behind."""
    connection = psycopg2.connect(**connection_arguments(settings))
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_given_rows_make_the_expected_ones(db: Cursor, folder: Path) -> None:
    leads_first = sorted((folder / "given").glob("*.csv"), key=lambda file: file.stem != GOLD_LEADS)
    days = {day for file in leads_first for day in put(db, file)}
    target = f"gold.{folder.name}"
    if target == MATCHING:
        match(db, days)
    if target in KEYS:
        fill_tables_of_leads(db, days)
    columns, expected = read(folder / "expected.csv")
    assert rows_of(db, target, columns) == sorted(expected)


def test_each_table_and_view_of_gold_has_its_folder(db: Cursor) -> None:
    db.execute("select relname from pg_class where relnamespace = 'gold'::regnamespace and relkind in ('r', 'p', 'v')")
    assert {name for (name,) in db.fetchall()} == {folder.name for folder in FOLDERS}


def test_each_table_view_and_column_of_the_warehouse_says_what_it_is(db: Cursor) -> None:
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


@pytest.mark.parametrize("script", ["create_changed_spans", "take_out_spans", "select_lead_status_history"])
def test_rows_without_a_lead_number_are_told_apart_by_their_hashes(db: Cursor, script: str) -> None:
    """By the number alone, each of them is compared with each: quadratic, should the CRM leave it empty."""
    days = {"day": sql.SQL("date '2024-10-01'"), "day_before": sql.SQL("date '2024-09-30'")}
    run_sql(db, "gold/create_spans.sql", pieces=sql.Literal(1))
    run_sql(db, "gold/create_touched_leads.sql")
    run_sql(db, "gold/create_changed_spans.sql", **days)
    db.execute("create table staging.day partition of silver.stg_csv_snapshots for values in ('2024-10-01')")
    text = script_text(f"gold/{script}.sql", spans=table_name("staging.spans"), **days).as_string(db)
    _, query = re.split(r"^(?=with\b)", re.sub(r"--.*", "", text), maxsplit=1, flags=re.MULTILINE)
    statement = query.split(";")[0]
    db.execute(f"set local enable_nestloop = off; set local enable_mergejoin = off; explain {statement}")
    conditions = [line for (line,) in db.fetchall() if "Hash Cond" in line and "COALESCE" in line]
    assert len(conditions) == 1
    for column in ("lead_number", "email_hash", "phone_hash"):
        assert column in conditions[0]


def put(db: Cursor, file: Path) -> set[str]:
    """COPY a file's rows into its table. Returns the days that they are of."""
    table = file.stem
    columns, rows = read(file)
    if table in NEVER_NULL:
        rest = {name: value for name, value in NEVER_NULL[table].items() if name not in columns}
        columns, rows = [*columns, *rest], [(*row, *rest.values()) for row in rows]
    is_by_day = table in (MATCHING, "silver.stg_csv_snapshots")
    days = {row[columns.index("_partition_date")] for row in rows} if is_by_day else set()
    for number, day in enumerate(sorted(days)):
        db.execute(
            sql.SQL("create table {} partition of {} for values in ({})").format(
                sql.Identifier("staging", f"given_{table.split('.')[1]}_{number}"), table_name(table), sql.Literal(day)
            )
        )
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    db.copy_expert(sql.SQL("copy {} ({}) from stdin (format csv)").format(table_name(table), names), text)
    return days


def match(db: Cursor, days: set[str]) -> None:
    """What step 6 does with each day."""
    run_sql(db, "gold/create_lead_lookups.sql")
    for number, day in enumerate(sorted(days)):
        gold_day = sql.Identifier("staging", f"matched_{number}")
        db.execute(
            sql.SQL("create table {} partition of {} for values in ({})").format(
                gold_day, table_name(MATCHING), sql.Literal(day)
            )
        )
        rows = script_text("gold/select_day.sql", partition_date=sql.Literal(day))
        run_sql(db, "gold/insert_into_gold_tables.sql", target=gold_day, rows=rows, more=sql.SQL(""))


def fill_tables_of_leads(db: Cursor, days: set[str]) -> None:
    """What step 6 does with the tables of leads, when they are empty."""
    names = {
        "spans": table_name(LEAD_SPANS),
        "current": table_name("staging.current"),
        "last_day": sql.SQL("{}::date").format(sql.Literal(max(days))),
        "leads": table_name(SILVER_LEADS),
    }
    run_sql(db, "gold/create_lead_lookups.sql")
    pieces = sql.Literal(len(PIECES))
    run_sql(db, "gold/create_spans.sql", pieces=pieces)
    for piece in PIECES:
        of_piece = {"piece": sql.Literal(piece), "pieces": pieces}
        rows = script_text("gold/select_spans.sql", **of_piece, last_day=names["last_day"])
        target = table_name(f"{LEAD_SPANS}_{piece}")
        run_sql(db, "gold/insert_into_gold_tables.sql", target=target, rows=rows, more=OF_SPANS)
    current = script_text("gold/select_lead_quality_current.sql", **names)
    db.execute(sql.SQL("create table {} as {}").format(names["current"], current))
    for table in KEYS:
        content = script_text(f"gold/select_{table.split('.')[1]}.sql", **names)
        db.execute(sql.SQL("create table staging.filling as {}").format(content))
        columns = sql.SQL(", ").join(map(sql.Identifier, table_columns(db, "staging.filling")))
        db.execute(sql.SQL("insert into {} ({}) table staging.filling").format(table_name(table), columns))
        db.execute("drop table staging.filling")


def rows_of(db: Cursor, table: str, columns: list[str]) -> list[tuple[str, ...]]:
    """The rows of a table, as COPY writes them, sorted."""
    text = io.StringIO()
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("copy (select {} from {}) to stdout (format csv)").format(names, table_name(table))
    db.copy_expert(query, text)
    return sorted(map(tuple, csv.reader(io.StringIO(text.getvalue()))))


def read(file: Path) -> tuple[list[str], list[tuple[str, ...]]]:
    """A file's header and its rows. Blanks around a cell are no part of it: the files are aligned for the eye."""
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True) if row]
    return header, [tuple(row) for row in rows]
