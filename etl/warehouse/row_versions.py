"""Maintain row versions: the snapshots as a type 2 slowly changing dimension, with the matches to backend leads.

A daily snapshot repeats almost every row of the day before, so gold is built from the distinct contents instead. Each
content is identified by its hash (`_row_hash`), and silver.row_contents has the days on which it is valid: from each
snapshot that contains it to the next one. A row version is one content over an uninterrupted range of days. There is
one operation: update the contents of one day to match a snapshot. The range from the day to the next snapshot is added
to the days of contents that are new on the day, and subtracted from those of contents that are missing from it; all
others are unchanged. New, late, corrected and removed days and a full refresh all use this operation, with one commit
per day. See docs/decisions/0005.

After each commit, every content of silver.row_contents has its matches in silver.version_matches, and
meta.affected_leads has every lead whose gold rows may have changed since they were last published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.columns import CLEANED_COLUMNS, CONTENT_COLUMNS
from etl.utils.errors import CheckFailedError
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import TableLoad, current_loads, fenced_transaction, record_load
from etl.warehouse.partitions import acquire_exclusive_lock, empty_table
from etl.warehouse.sql_scripts import quote_identifier, quote_identifiers, run_sql, scripts_digest
from etl.warehouse.tables import GOLD_MATCHING, ROW_CONTENTS, ROW_VERSION_TABLES

SCRIPTS = (
    "silver/create_row_versions.sql",
    "silver/row_versions/apply_day.sql",
    "silver/row_versions/match_contents.sql",
    "silver/row_versions/compare_leads.sql",
)
"""Scripts whose changes cause a rebuild of all contents and matches."""

COLUMNS = quote_identifiers(CONTENT_COLUMNS)


def prepare(db: Cursor, run_id: str, leads: TableLoad, *, restart: bool) -> dict[date, int]:
    """Prepare the tables for `apply_days`. Returns day → id of the silver load from which the day was applied.

    If they are damaged (see `are_damaged`) or `restart` is set, as in a full refresh, empty them all, mark all days of
    gold.lead_quality_matching as outdated, and add all leads to meta.affected_leads. Then, unless the contents are
    matched to `leads` already, match those of changed leads again (see `compare_leads`).

    Args:
        leads: the current load of silver.stg_leads_parquet.
    """
    if is_restarted := restart or are_damaged(db):
        add_all_leads(db)
        db.execute("update meta.table_loads set built_from = '{}' where parent_table = %s", (GOLD_MATCHING,))
        acquire_exclusive_lock(db, *ROW_VERSION_TABLES)
        for table in ROW_VERSION_TABLES:
            empty_table(db, table)
    if is_restarted or not are_matched(db, leads):
        compare_leads(db)
        _record(db, run_id, leads)
    return versioned_loads(db)


def apply_days(
    settings: Settings, run_id: str, silver: Sequence[TableLoad], leads: TableLoad, versioned: Mapping[date, int]
) -> Iterator[TableLoad]:
    """Apply new, changed and removed days of silver, one transaction each, after `prepare`.

    Yields the load of each day of silver, including unchanged ones, as soon as the day's contents are matched.

    Args:
        silver: the loads of all days of silver, in order.
        leads: the load of silver.stg_leads_parquet that was given to `prepare`.
        versioned: the result of `prepare`.

    Raises:
        CheckFailedError: see `apply_snapshot`.
        LockHeldError: see `fenced_transaction`.
    """
    for day in sorted(versioned.keys() - {load.day.date for load in silver}):
        apply_day(settings, run_id, day, None, leads)
    for load in silver:
        if versioned.get(load.day.date) != load.load_id:
            apply_day(settings, run_id, load.day.date, load, leads)
        yield load


def versioned_loads(db: Cursor) -> dict[date, int]:
    """Return day → id of the silver load from which the day was applied."""
    db.execute("select _partition_date, load_id from silver.versioned_days")
    return dict(db.fetchall())


@retry_transient()
def apply_day(settings: Settings, run_id: str, day: date, silver: TableLoad | None, leads: TableLoad) -> None:
    """Update the contents of a day to match silver, and record the loads, in one transaction.

    Args:
        silver: the load to apply; None if silver no longer has the day, which is then removed.

    Raises:
        CheckFailedError: see `apply_snapshot`.
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=ROW_CONTENTS) as db:
        if silver is None:
            remove_day(db, day)
        else:
            apply_snapshot(db, snapshot_rows(silver), day, silver.load_id)
        _record(db, run_id, leads)


def snapshot_rows(silver: TableLoad) -> sql.Composable:
    """Return SQL for a day of silver: its table; if that was modified externally, a query that computes `_row_hash`."""
    if not silver.modified_externally:
        return quote_identifier(silver.table)
    return sql.SQL(
        "(select {cleaned}, _extraction_date, _partition_date, "
        "hashtextextended(jsonb_build_array({content})::text, 0) as _row_hash from {table})"
    ).format(cleaned=quote_identifiers(CLEANED_COLUMNS), content=COLUMNS, table=quote_identifier(silver.table))


def apply_snapshot(db: Cursor, snapshot: sql.Composable, day: date, load_id: int) -> None:
    """Update the contents of a day to match a snapshot, match new contents to leads, and record the day.

    The leads whose rows may change are added to meta.affected_leads.

    Raises:
        CheckFailedError: contents with different lead numbers have the same `_row_hash`.
    """
    _change_day(db, snapshot, day)
    insert = sql.SQL(
        "insert into silver.versioned_days (_partition_date, _extraction_date, load_id) "
        "values (%s, (select _extraction_date from {} as snapshot limit 1), %s)"
    )
    db.execute(insert.format(snapshot), (day, load_id))


def remove_day(db: Cursor, day: date) -> None:
    """Give a day the contents of the snapshot before it, and delete it from silver.versioned_days."""
    day_before = max((other for other in versioned_loads(db) if other < day), default=None)
    snapshot = sql.SQL("(select * from silver.row_contents where valid_during @> {}::date)")
    _change_day(db, snapshot.format(sql.Literal(day_before)), day)


def _change_day(db: Cursor, snapshot: sql.Composable, day: date) -> None:
    """Update the contents of a day to match a snapshot, and delete the day from silver.versioned_days."""
    next_day = min((other for other in versioned_loads(db) if other > day), default=None)
    run_sql(
        db,
        "silver/row_versions/apply_day.sql",
        snapshot=snapshot,
        columns=COLUMNS,
        day=sql.Literal(day),
        next_day=sql.SQL("{}::date").format(sql.Literal(next_day)),
        period=sql.SQL("datemultirange(daterange({}, {}))").format(sql.Literal(day), sql.Literal(next_day)),
    )
    db.execute(
        "select _row_hash from staging.day_changes group by _row_hash "
        "having bool_or(is_in_snapshot and is_known and lead_number is distinct from known_number) "
        "or min(lead_number) <> max(lead_number) "
        "or bool_or(lead_number is null) <> bool_and(lead_number is null) limit 1"
    )
    if collision := db.fetchone():
        raise CheckFailedError(
            f"snapshot of {day}: two lead numbers have the same _row_hash, {collision[0]}",
            hint="in etl/utils/transform.py, pass a hash_key of 16 characters to hash_pandas_object, other than its "
            "default, then rerun; the run cleans all days again",
        )
    run_sql(db, "silver/row_versions/match_contents.sql")
    db.execute("drop table staging.day_changes; delete from silver.versioned_days where _partition_date = %s", (day,))


def compare_leads(db: Cursor) -> None:
    """Update silver.matched_leads from silver, and match the contents of changed leads again.

    Days of gold.lead_quality_matching that have such a content are marked as outdated.
    """
    run_sql(db, "silver/row_versions/compare_leads.sql")
    run_sql(db, "silver/row_versions/match_contents.sql")


def add_all_leads(db: Cursor) -> None:
    """Add every lead of silver and gold to meta.affected_leads."""
    db.execute(
        "insert into meta.affected_leads (lead_uuid) select lead_uuid from silver.stg_leads_parquet "
        "where lead_uuid is not null union all select lead_uuid from gold.leads"
    )


def are_damaged(db: Cursor) -> bool:
    """Return whether one of the tables was dropped, modified externally, or not built by this version of the code."""
    return len(_current_loads(db)) < len(ROW_VERSION_TABLES)


def are_matched(db: Cursor, leads: TableLoad) -> bool:
    """Return whether the contents were matched to this load of silver.stg_leads_parquet. Check `are_damaged` first."""
    return _current_loads(db)["silver.matched_leads"].built_from == (leads.load_id,)


def current_version_loads(db: Cursor) -> tuple[int, ...]:
    """Return the ids of the current loads of `ROW_VERSION_TABLES`, from which the tables of leads are built."""
    return tuple(sorted(load.load_id for load in _current_loads(db).values()))


def _current_loads(db: Cursor) -> dict[str, TableLoad]:
    """Return table → load for the tables that this version of the code built and nobody modified externally."""
    loads = current_loads(db, *ROW_VERSION_TABLES)
    return {table: load for table, load in loads.items() if load.code_version == code_version()}


def code_version() -> str:
    return scripts_digest(*SCRIPTS)


def _record(db: Cursor, run_id: str, leads: TableLoad) -> None:
    for table in ROW_VERSION_TABLES:
        # Rows are not counted: that would take longer than applying a day. All tables have the leads with which the
        # contents were matched, so that one condition finds outdated tables.
        record_load(db, run_id, table, 0, built_from=[leads.load_id], code_version=code_version())
