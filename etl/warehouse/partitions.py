"""Create staging tables for days, swap them into partitioned tables, and lock and alter tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.errors import PostgresError
from etl.utils.utils_connection import SESSION_SETTINGS
from etl.warehouse.sql_scripts import quote_identifier, table_exists
from etl.warehouse.transactions import raise_if_aborting

log = logging.getLogger(__name__)


def create_staging_partition(db: Cursor, parent: str, staged: str, partition_value: str) -> None:
    """Create an empty table like `parent`, to be filled and then published by `swap_partition`.

    An existing table of that name is dropped. The new table has no indexes: creating indexes after the rows are
    inserted takes less time. Attaching creates those of `parent` that are missing.

    Args:
        partition_value: the only `_partition_date` that the table accepts, as YYYY-MM-DD.
    """
    db.execute(
        sql.SQL(
            "drop table if exists {staged}; "
            "create table {staged} (like {parent} including all excluding comments excluding indexes, "
            # implies the partition bound, so that attaching need not scan the rows
            "constraint one_day check (_partition_date is not null and _partition_date = {value})) "
            # the swap would have to wait for autovacuum
            "with (autovacuum_enabled = off)"
        ).format(staged=quote_identifier(staged), parent=quote_identifier(parent), value=sql.Literal(partition_value))
    )


SECONDS_TO_WAIT_FOR_LOCKS = 300.0
READER_TIME_LIMITS = {"statement_timeout": "4min", "idle_in_transaction_session_timeout": "1min"}
"""Time limits of readers. They are below `SECONDS_TO_WAIT_FOR_LOCKS`, so that PostgreSQL cancels a long query before
publishing gives up waiting for it."""
SECONDS_BEFORE_WARNING = 10.0
READERS_MAY_WAIT_MS = 100
"""Lock timeout per attempt: short, because new readers queue behind a session that waits for an exclusive lock."""
MAINTENANCE_MAY_WAIT_MS = 5_000
"""Lock timeout against autovacuum: longer than deadlock_timeout (by default 1 s), after which PostgreSQL cancels it."""


def acquire_exclusive_lock(db: Cursor, *tables: str) -> None:
    """Wait for running queries, then lock tables exclusively until this transaction ends.

    Each attempt takes all locks or none, so that it cannot deadlock with a reader of several tables. PostgreSQL cancels
    autovacuum only after a longer wait than readers may be blocked for, so the wait for autovacuum comes first, with a
    weaker lock that does not block readers.

    Raises:
        PostgresError: another session holds a lock for `SECONDS_TO_WAIT_FOR_LOCKS`; the message describes the session.
        AbortedError: the run is being aborted.
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_LOCKS
    _lock(db, tables, "share update exclusive", MAINTENANCE_MAY_WAIT_MS, deadline)
    _lock(db, tables, "access exclusive", READERS_MAY_WAIT_MS, deadline)


def _lock(db: Cursor, tables: Sequence[str], mode: str, timeout_ms: int, deadline: float) -> None:
    lock = sql.SQL("savepoint before_lock; set local lock_timeout = {}; lock table {} in {} mode").format(
        sql.Literal(timeout_ms), sql.SQL(", ").join(map(quote_identifier, tables)), sql.SQL(mode)
    )
    named = ", ".join(tables)
    warn_at: float | None = time.monotonic() + SECONDS_BEFORE_WARNING
    pause = 0.0
    while True:
        raise_if_aborting()
        try:
            db.execute(lock)
        except psycopg2.errors.LockNotAvailable:
            db.execute("rollback to savepoint before_lock")
        else:
            db.execute("set local lock_timeout = %s", (SESSION_SETTINGS["lock_timeout"],))
            return
        now = time.monotonic()
        if now > deadline:
            raise PostgresError(
                f"no lock on {named} after {SECONDS_TO_WAIT_FOR_LOCKS:.0f} s: {_blocking_sessions(db, tables)}",
                hint="rerun when these sessions have ended; to terminate one, as its user or a superuser: "
                "select pg_terminate_backend(<process>)",
            )
        if warn_at and now > warn_at:
            log.warning("waiting for a lock on %s: %s", named, _blocking_sessions(db, tables))
            warn_at = None
        pause = min(pause + 0.05, 1.0)
        time.sleep(pause)


def _blocking_sessions(db: Cursor, tables: Sequence[str]) -> str:
    """Describe the sessions that hold a lock on one of the tables or their partitions."""
    db.execute(
        """
        select format(
            'process %%s%%s%%s holds a lock%%s', pid, coalesce(' of user ' || usename, ' of autovacuum'),
            -- NULL for sessions of other users, unless this role is in pg_read_all_stats
            ' (' || nullif(concat_ws(', ', nullif(application_name, ''), state), '') || ')',
            '; its transaction began at ' || date_trunc('second', xact_start)
        )
        from pg_locks
        inner join pg_stat_activity using (pid)
        where
            locktype = 'relation'
            and relation in (
                select unnest(%(tables)s::text[]::regclass[])
                union all
                select relid from unnest(%(tables)s::text[]::regclass[]) as parent cross join pg_partition_tree(parent)
            )
            and granted
            and pid <> pg_backend_pid()
        group by pid, usename, application_name, state, xact_start
        order by xact_start
        """,
        {"tables": list(tables)},
    )
    return "; ".join(holder for (holder,) in db.fetchall()) or "the blocking sessions have ended meanwhile"


def swap_partition(db: Cursor, parent: str, staged: str, published: str, partition_value: str) -> None:
    """Publish a staging table as a partition of `parent`, in place of an existing one, and add the change trigger.

    If other objects depend on the partition, such as views, replace its rows instead, and drop the staging table. Call
    `acquire_exclusive_lock` on `parent` first.

    Args:
        staged: the staging table, from `create_staging_partition`. It has the name of `published` in another schema.
        partition_value: the `_partition_date` of its rows, as YYYY-MM-DD.

    Raises:
        PostgresError: `published` is a partition of another table, or of none and other objects depend on it.
    """
    db.execute(
        "select inhparent = %s::regclass, inhparent::regclass::text from pg_inherits where inhrelid = to_regclass(%s)",
        (parent, published),
    )
    is_attached, other = db.fetchone() or (None, None)
    if is_attached is False:
        hint = f"to keep it, move it (alter table {published} set schema …); otherwise, drop {other}; then rerun"
        raise PostgresError(f"{published} cannot be replaced: it is a partition of {other}, not of {parent}", hint=hint)
    names = {
        "published": quote_identifier(published),
        "staged": quote_identifier(staged),
        "schema": sql.Identifier(published.split(".", 1)[0]),
        "parent": quote_identifier(parent),
        "value": sql.Literal(partition_value),
    }
    try:
        db.execute(sql.SQL("savepoint before_drop; drop table if exists {published}").format(**names))
    except psycopg2.errors.DependentObjectsStillExist:
        db.execute(sql.SQL("rollback to before_drop"))
        if not is_attached:
            raise PostgresError(
                f"{published} cannot be replaced: it is not a partition of {parent}, and other objects depend on it",
                hint=f"drop the dependent objects, or attach the table to {parent} again, then rerun",
            ) from None
        replace_rows = "truncate {published}; insert into {published} select * from {staged}; drop table {staged}"
        db.execute(sql.SQL(replace_rows).format(**names))
        return
    db.execute(
        sql.SQL(
            "alter table {staged} set schema {schema}; "
            "alter table {parent} attach partition {published} for values in ({value}); "
            "alter table {published} drop constraint one_day, reset (autovacuum_enabled)"
        ).format(**names)
    )
    add_change_trigger(db, published)


def add_change_trigger(db: Cursor, table: str) -> None:
    """Add a trigger that flags later changes of a table in the load ledger (meta.note_change in 0001_meta_tables)."""
    db.execute(
        sql.SQL(
            "create or replace trigger note_change after insert or update or delete or truncate on {} "
            "for each statement execute function meta.note_change()"
        ).format(quote_identifier(table))
    )


def empty_table(db: Cursor, table: str) -> None:
    """Truncate a table, after waiting for the sessions that use it.

    With wal_level=minimal, rows that the same transaction copies into the table are not written to the WAL.

    Raises:
        PostgresError: see `acquire_exclusive_lock`.
    """
    acquire_exclusive_lock(db, table)
    db.execute(sql.SQL("truncate table {}").format(quote_identifier(table)))


def table_columns(db: Cursor, table: str) -> list[str]:
    """Return the columns of a table, in order."""
    db.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
        "order by attnum",
        (table,),
    )
    return [name for (name,) in db.fetchall()]


def add_missing_columns(db: Cursor, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Add the columns that existing tables lack, and flag these tables as modified, so that they are loaded again.

    Tables are locked only if a column is missing: even `add column if not exists` takes an exclusive lock.

    Args:
        tables: table → column → data type. Tables that do not exist are ignored.

    Raises:
        PostgresError: see `acquire_exclusive_lock`.
    """
    missing = missing_columns(db, tables)
    if missing:
        acquire_exclusive_lock(db, *dict.fromkeys(table for table, *_ in missing))
    for table, column, data_type in missing:
        db.execute(
            sql.SQL("alter table {} add column {} {}").format(
                quote_identifier(table), sql.Identifier(column), sql.SQL(data_type)
            )
        )
        # A new load of silver, so that its row versions are updated, too: their hashes become those of `snapshot_rows`.
        db.execute(
            "update meta.table_loads set changed = true, load_id = case parent_table "
            "when 'silver.stg_csv_snapshots' then nextval('meta.load_ids') else load_id end where parent_table = %s",
            (table,),
        )
        log.info("%s: column %s added", table, column)


def missing_columns(db: Cursor, tables: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, str]]:
    """Return table, column and data type of the columns that `add_missing_columns` would add."""
    existing = {table: table_columns(db, table) for table in tables if table_exists(db, table)}
    return [
        (table, column, data_type)
        for table, known in existing.items()
        for column, data_type in tables[table].items()
        if column not in known
    ]
