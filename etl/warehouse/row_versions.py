"""Row versions: the snapshots as a type 2 slowly changing dimension, and how their contents match backend leads.

A daily snapshot repeats almost every row of the day before, so gold is built from the distinct contents instead. A
content is known by its hash (`_row_hash`), a version is a content and an uninterrupted range of snapshots. There is one
operation, advance by a day, and one rule for where to start: at the first day on which the list of (day, silver load)
that versions were built from differs from silver's. Versions are rewound to that day, then advanced one commit per day:
new, late, corrected and removed days and a full refresh are all the same. See docs/decisions/0005.

After each commit, every content of silver.row_versions has its matches in silver.version_matches, and
meta.affected_leads has every lead whose gold rows may have changed since they were last published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.columns import CONTENT_COLUMNS
from etl.utils.day_tables import empty_table
from etl.utils.errors import CheckFailedError
from etl.utils.patience import patient
from etl.utils.state import (
    GOLD_LEADS,
    GOLD_MATCHING,
    ROW_VERSIONS,
    SILVER_LEADS,
    VERSION_MATCHES,
    TableLoad,
    current_loads,
    hold_the_run,
    record_load,
)
from etl.utils.transactions import digest_of_scripts, run_sql, table_name, transaction

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.utils_connection import Settings

TABLES = {
    "silver.row_versions_open": ROW_VERSIONS,
    "silver.row_versions_closed": ROW_VERSIONS,
    "silver.versioned_days": ROW_VERSIONS,
    "silver.version_matches": VERSION_MATCHES,
    "silver.matched_leads": VERSION_MATCHES,
}
"""Table → its parent in the ledger."""

SCRIPTS = (
    "silver/create_row_versions.sql",
    "silver/row_versions/advance.sql",
    "silver/row_versions/rewind.sql",
    "silver/row_versions/match_contents.sql",
    "silver/row_versions/compare_leads.sql",
)
"""When one of these changes, all versions and matches are built again."""

COLUMNS = sql.SQL(", ").join(map(sql.Identifier, CONTENT_COLUMNS))


def prepare(db: Cursor, run_id: str, silver: Sequence[TableLoad], leads: TableLoad, *, restart: bool) -> None:
    """Bring versions to a state from which they can be advanced, and their matches up to date with the leads.

    Args:
        silver: the days of silver, in order.
        restart: build everything again, as for a full refresh.
    """
    loads = _current_loads(db)
    restart = restart or len(loads) < len(TABLES)
    if restart:
        add_all_leads(db)
        db.execute("update meta.table_loads set built_from = '{}' where parent_table = %s", (GOLD_MATCHING,))
        for table in TABLES:
            empty_table(db, table)
    has_other_leads = restart or loads["silver.matched_leads"].built_from != (leads.load_id,)
    if has_other_leads:
        compare_leads(db)  # before the rewind, as it must find the contents of all published days
    changed_day = _first_difference(db, silver)
    if changed_day:
        run_sql(db, "silver/row_versions/rewind.sql", columns=COLUMNS, day=sql.Literal(changed_day))
    if changed_day or has_other_leads:
        _record(db, run_id, leads)


def advance(settings: Settings, run_id: str, silver: Sequence[TableLoad], leads: TableLoad) -> Iterator[TableLoad]:
    """Advance versions through all days of silver, after `prepare`. Yields each day once its contents are matched."""
    versioned = versioned_days(settings)
    for load in silver:
        if load.day.date not in versioned:
            advance_day(settings, run_id, load, leads)
        yield load


@patient()
def versioned_days(settings: Settings) -> set[date]:
    """The days that versions have."""
    with transaction(settings) as db:
        db.execute("select _partition_date from silver.versioned_days")
        return {day for (day,) in db.fetchall()}


@patient()
def advance_day(settings: Settings, run_id: str, silver: TableLoad, leads: TableLoad) -> None:
    """Advance versions by one day in one transaction.

    Raises:
        CheckFailedError: see `apply_day`.
    """
    with bulk_transaction(settings, run_id, filling=ROW_VERSIONS) as db:
        db.execute("select from silver.versioned_days where _partition_date = %s", (silver.day.date,))
        if db.rowcount:
            return  # a commit of which nothing was heard
        apply_day(db, snapshot_rows(silver), silver.day.date, silver.load_id)
        _record(db, run_id, leads)


def snapshot_rows(silver: TableLoad) -> sql.Composable:
    """The rows of a day of silver. Where they were modified externally, `_row_hash` is out of date: hash them here."""
    if not silver.changed:
        return table_name(silver.table)
    return sql.SQL(
        "(select {columns}, _extraction_date, _partition_date, "
        "hashtextextended(jsonb_build_array({columns})::text, 0) as _row_hash from {table})"
    ).format(columns=COLUMNS, table=table_name(silver.table))


def apply_day(db: Cursor, snapshot: sql.Composable, day: date, load_id: int) -> None:
    """Close and open versions as the rows of a snapshot say, and match the contents that are new.

    Raises:
        CheckFailedError: one hash stands for two lead numbers.
    """
    run_sql(
        db,
        "silver/row_versions/advance.sql",
        snapshot=snapshot,
        columns=COLUMNS,
        day=sql.Literal(day),
        load_id=sql.Literal(load_id),
    )
    db.execute("select opened_hash from staging.day_changes where opened_hash = closed_hash limit 1")
    if collision := db.fetchone():
        raise CheckFailedError(
            f"snapshot of {day}: two lead numbers have the same _row_hash, {collision[0]}",
            hint="hash with another key in etl/utils/transform.py and raise ROW_HASH_VERSION in etl/utils/columns.py",
        )
    run_sql(db, "silver/row_versions/match_contents.sql")
    db.execute("drop table staging.day_changes")


def compare_leads(db: Cursor) -> None:
    """Match contents again whose leads have changed since they were matched."""
    run_sql(db, "silver/row_versions/compare_leads.sql")
    run_sql(db, "silver/row_versions/match_contents.sql")


def add_all_leads(db: Cursor) -> None:
    """Add every lead that gold has or shall have to meta.affected_leads."""
    db.execute(
        sql.SQL(
            "insert into meta.affected_leads (lead_uuid) select lead_uuid from {} union all select lead_uuid from {}"
        ).format(table_name(SILVER_LEADS), table_name(GOLD_LEADS))
    )


def current_version_loads(db: Cursor) -> tuple[int, ...]:
    """The load ids of all tables of versions and matches: what tables of leads are built from."""
    return tuple(load.load_id for load in _current_loads(db).values())


def _current_loads(db: Cursor) -> dict[str, TableLoad]:
    """The tables of versions and matches that nobody else has changed, and that this version of the code has built."""
    loads = current_loads(db, ROW_VERSIONS) | current_loads(db, VERSION_MATCHES)
    return {table: loads[table] for table in TABLES if table in loads and loads[table].code_version == code_version()}


def code_version() -> str:
    return digest_of_scripts(*SCRIPTS)


def _first_difference(db: Cursor, silver: Sequence[TableLoad]) -> date | None:
    """The first day to take back: versions have it, or a day after it, and silver has another load of it, or none."""
    db.execute("select _partition_date, load_id from silver.versioned_days")
    versioned = set(db.fetchall())
    different = {day for day, _ in versioned ^ {(load.day.date, load.load_id) for load in silver}}
    latest = max((day for day, _ in versioned), default=date.min)
    return min((day for day in different if day <= latest), default=None)


def _record(db: Cursor, run_id: str, leads: TableLoad) -> None:
    for table, parent in TABLES.items():
        record_load(
            db,
            table=table,
            parent=parent,
            run_id=run_id,
            row_count=0,  # counting them would take longer than a day's changes
            built_from=[leads.load_id] if parent == VERSION_MATCHES else (),
            code_version=code_version(),
        )


@contextmanager
def bulk_transaction(settings: Settings, run_id: str, *, filling: str) -> Iterator[Cursor]:
    """A transaction for statements that read whole tables, on a table that the run has to itself."""
    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=filling)
        db.execute(
            "set local work_mem = '256MB'; set local jit = off; "
            # All joins are hash joins: linear, whatever the planner believes of tables that were just filled.
            "set local enable_nestloop = off; set local enable_mergejoin = off; "
            # A small sample says what the planner has to know, and takes a tenth of the time.
            "set local default_statistics_target = 10"
        )
        yield db
