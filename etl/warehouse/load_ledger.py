"""Read and write the load ledger in schema `meta`: loaded files, and the loads from which each table was built.

Entries are written in the transaction that fills the table, so that they agree with it after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from etl.utils.day import Day
from etl.utils.errors import CheckFailedError, LockHeldError, listed
from etl.utils.s3_source import SourceObject
from etl.utils.utils_connection import Settings
from etl.warehouse.sql_scripts import quote_identifiers
from etl.warehouse.transactions import transaction


@dataclass(frozen=True)
class TableLoad:
    """The current load of one table: a row of meta.table_loads."""

    table: str
    load_id: int
    built_from: tuple[int, ...]
    """Ids of the loads from which the table was built."""
    row_count: int
    """Number of loaded rows; 0 for the tables of row versions, which are not counted."""
    of_day: Day | None
    """The snapshot day of the table; None if it has none, such as a table of leads."""
    rejected_count: int = 0
    separator_count: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Further counts of the step that filled the table and, for days of silver and gold, of earlier steps: column
    `facts`."""
    modified_externally: bool = False
    """Whether the table was modified outside the pipeline since it was loaded; the counts may then be wrong."""
    code_version: str | None = None
    """Digest of the code that built the table; None for bronze, and for tables built before digests were recorded."""

    @property
    def day(self) -> Day:
        """The snapshot day of the table.

        Raises:
            ValueError: the table has no snapshot day, such as a table of leads.
        """
        if self.of_day is None:
            raise ValueError(f"{self.table} has no snapshot day")
        return self.of_day


def require_tables(db: Cursor, *tables: str, created_by_step: int) -> None:
    """Raise if one of the tables does not exist.

    Raises:
        CheckFailedError: tables are missing; the hint names the step that creates them.
    """
    db.execute("select name from unnest(%s) as name where to_regclass(name) is null", (list(tables),))
    missing = [name for (name,) in db.fetchall()]
    if missing:
        raise CheckFailedError(
            f"missing tables: {', '.join(missing)}",
            hint=f"to create them and run the later steps: python main.py --from-step {created_by_step}",
        )


def require_loaded(db: Cursor) -> None:
    """Raise if a day of silver, or silver's leads, was dropped, renamed or detached after it was loaded.

    Also raise if the load ledger lacks a day of silver, for example because schema meta was dropped: gold would lose
    that day. Partitions that users added have other names.

    Raises:
        CheckFailedError: names these tables; the hint names the step that loads them again.
    """
    moved = "select table_name from meta.table_loads where parent_table like 'silver.stg_%' and not ({}) order by 1"
    db.execute(sql.SQL(moved).format(_IS_IN_PLACE))
    if names := [name for (name,) in db.fetchall()]:
        raise CheckFailedError(
            f"{listed(names)}: dropped, renamed or detached outside the pipeline",
            hint=f"to load the data again: python main.py --from-step 3. {_REMOVE_A_DAY}",
        )
    db.execute(
        "select name from pg_inherits inner join pg_class on pg_class.oid = inhrelid "
        "cross join lateral (select relnamespace::regnamespace || '.' || relname) as full_name (name) "
        "where inhparent = 'silver.stg_csv_snapshots'::regclass and relname ~ '^stg_csv_data_[0-9]+$' "
        "and name not in (select table_name from meta.table_loads) order by 1"
    )
    if names := [name for (name,) in db.fetchall()]:
        raise CheckFailedError(
            f"{listed(names)}: not in the load ledger",
            hint=f"restore the files of these days in S3, then run: python main.py --from-step 2. {_REMOVE_A_DAY}",
        )


_REMOVE_A_DAY = "To remove a day permanently: sql_scripts/admin/remove_day.psql"


_IS_IN_PLACE = sql.SQL("""
    to_regclass(table_name) is not distinct from table_oid
    and not exists (
        select from pg_class as parent
        where
            parent.oid = to_regclass(parent_table)
            and parent.relkind = 'p'
            and parent.oid not in (select inhparent from pg_inherits where inhrelid = table_oid)
    )
""")
"""SQL condition on meta.table_loads: the loaded table still exists and, if it is a partition, is still attached."""

_CURRENT_LOADS = sql.SQL("""
select
    table_name, load_id, built_from, row_count, file_number, partition_date,
    rejected_count, separator_count, facts, changed, code_version
from meta.table_loads
where
    parent_table = any(%(parents)s)
    and {}
    and (%(include_modified)s or not changed)
    and (
        %(step)s::int is null
        or rejected_count = (
            select count(*) from silver.rejected_rows
            where
                step = %(step)s
                -- `is not distinct from` could not use the index
                and (_partition_date = partition_date or _partition_date is null and partition_date is null)
        )
    )
order by file_number
""").format(_IS_IN_PLACE)


def current_loads(
    db: Cursor, *parents: str, rejects_of_step: int | None = None, include_modified: bool = False
) -> dict[str, TableLoad]:
    """Return name → current load of `parents` and their partitions, for tables that still contain what was loaded.

    A table that was dropped, renamed, detached or modified outside the pipeline is left out, so that its step loads it
    again. The order is that of the days; tables without a day come last.

    Args:
        rejects_of_step: the step that writes the tables' rejected rows. If given, a table is also left out if the
            number of its rows in silver.rejected_rows is not its `rejected_count`.
        include_modified: include tables that were modified outside the pipeline.
    """
    db.execute(
        _CURRENT_LOADS, {"parents": list(parents), "step": rejects_of_step, "include_modified": include_modified}
    )
    loads = (
        TableLoad(table, load_id, tuple(inputs), rows, Day(number, day) if number is not None else None, *others)
        for table, load_id, inputs, rows, number, day, *others in db.fetchall()
    )
    return {load.table: load for load in loads}


def recorded_facts(db: Cursor, parent: str) -> dict[str, dict[str, Any]]:
    """Return partition → `TableLoad.metrics` as recorded, even if the partition was dropped or modified externally."""
    db.execute("select table_name, facts from meta.table_loads where parent_table = %s", (parent,))
    return dict(db.fetchall())


def record_load(
    db: Cursor,
    run_id: str,
    table: str,
    row_count: int,
    *,
    parent: str | None = None,
    day: Day | None = None,
    built_from: Iterable[int] = (),
    rejected_count: int = 0,
    separator_count: int = 0,
    metrics: Mapping[str, Any] | None = None,
    code_version: str | None = None,
) -> None:
    """Record in meta.table_loads that this transaction loaded a table, in place of the table's earlier entry.

    Call it only in a `fenced_transaction`, so that a stale run records nothing.

    Args:
        parent: the partitioned table, or another name by which `current_loads` finds the table; by default its own.
        day: the snapshot day of the table, if it has one.
        built_from: ids of the loads from which the table was built.
        metrics: further counts, stored as JSON in the column `facts`.
        code_version: digest of the code that built the table.
    """
    row = {
        "table_name": table,
        "parent_table": parent or table,
        "partition_date": day and day.date,
        "file_number": day and day.number,
        "built_from": list(built_from),
        "row_count": row_count,
        "rejected_count": rejected_count,
        "separator_count": separator_count,
        "facts": Json(metrics or {}),
        "code_version": code_version,
        "run_id": run_id,
    }
    delete_load(db, table)
    insert = sql.SQL(
        "insert into meta.table_loads ({}, load_id, table_oid) "
        "values ({}, nextval('meta.load_ids'), %(table_name)s::regclass)"
    )
    db.execute(insert.format(quote_identifiers(row), sql.SQL(", ").join(map(sql.Placeholder, row))), row)


def move_load(db: Cursor, run_id: str, load: TableLoad, table: str, *, parent: str) -> None:
    """Record that a loaded table has become the partition `table` of `parent`, as a new load with the same counts.

    Call it only in a `fenced_transaction`.
    """
    delete_load(db, table)
    db.execute(
        "update meta.table_loads set table_name = %(table)s, parent_table = %(parent)s, run_id = %(run_id)s, "
        "load_id = nextval('meta.load_ids'), table_oid = %(table)s::regclass, loaded_at = clock_timestamp() "
        "where table_name = %(loaded)s",
        {"table": table, "parent": parent, "run_id": run_id, "loaded": load.table},
    )


@contextmanager
def fenced_transaction(settings: Settings, run_id: str, *, filling: str) -> Iterator[Cursor]:
    """Open a transaction that fills tables, and yield its cursor. Until it ends, no other run can start.

    The planner is set up for statements that read whole tables.

    Args:
        filling: the table that the transaction fills. If the same work is attempted twice, because a worker seemed to
            be lost, the second attempt waits for the first one to end.

    Raises:
        LockHeldError: the run has ended, or has lost its lock and another run has started since.
        PostgresError, AbortedError: see `transaction`.
    """
    with transaction(settings) as db:
        db.execute("select from meta.pipeline_runs where run_id = %s and status = 'running' for share", (run_id,))
        if db.rowcount == 0:
            raise LockHeldError(
                f"run {run_id} has ended, or has lost the run lock and another run has started",
                hint="wait until no other run is active, then rerun",
            )
        db.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", (_FILLING, filling))
        db.execute(
            "set local work_mem = '256MB'; set local jit = off; "
            # Only hash joins: they stay linear if the planner misjudges tables that were just filled.
            "set local enable_nestloop = off; set local enable_mergejoin = off; "
            # A small sample is enough for the planner, and ANALYZE takes a tenth of the time.
            "set local default_statistics_target = 10"
        )
        yield db


_FILLING = int.from_bytes(b"FILL")
"""First key of the advisory locks on tables that are being filled; the second key is a hash of the table name."""


def delete_load(db: Cursor, table: str) -> None:
    """Delete the entry of a table from the load ledger."""
    db.execute("delete from meta.table_loads where table_name = %s", (table,))


def delete_other_loads(db: Cursor, parent: str, partitions: Sequence[str]) -> None:
    """Delete the entries of all other partitions of a table, including those that no longer exist."""
    db.execute(
        "delete from meta.table_loads where parent_table = %s and table_name <> all(%s)", (parent, list(partitions))
    )


@dataclass(frozen=True)
class IngestedFile:
    """A row of meta.ingested_files: a source file, in the version that was loaded into bronze."""

    source: SourceObject
    table: str
    partition_date: date | None
    """Snapshot day of the file; None for the leads parquet."""


def ingested_files(db: Cursor) -> dict[str, IngestedFile]:
    """Return S3 key → source file for the files that bronze contains."""
    db.execute("select bucket, s3_key, etag, size_bytes, table_name, partition_date from meta.ingested_files")
    return {
        key: IngestedFile(SourceObject(bucket, key, etag, size), table, day)
        for bucket, key, etag, size, table, day in db.fetchall()
    }


def source_key(db: Cursor, table: str) -> str:
    """Return the S3 key of the file from which a table of bronze was loaded; the table's name if none is recorded."""
    db.execute("select s3_key from meta.ingested_files where table_name = %s", (table,))
    (key,) = db.fetchone() or (table,)
    return str(key)


def record_file(db: Cursor, table: str, source: SourceObject, *, records: int) -> None:
    """Record in meta.ingested_files that this transaction loaded a file into a table of bronze.

    Call `record_load` first. Earlier entries of the table and of the file's S3 key are deleted.

    Args:
        records: number of records in the file, accepted or rejected.
    """
    db.execute("delete from meta.ingested_files where table_name = %s or s3_key = %s", (table, source.key))
    db.execute(
        """
        insert into meta.ingested_files (
            s3_key, bucket, etag, size_bytes, file_number, partition_date, table_name,
            record_count, bronze_rows, rejected_lines, run_id
        )
        select %s, %s, %s, %s, file_number, partition_date, table_name, %s, row_count, rejected_count, run_id
        from meta.table_loads
        where table_name = %s
        """,
        (source.key, source.bucket, source.etag, source.size, records, table),
    )
