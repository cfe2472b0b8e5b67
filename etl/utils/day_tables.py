"""Tables that are filled as a whole: a day's partition, made aside and put in its place; text tables on their way.

Knows Postgres, and no frames.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from etl.utils.errors import PostgresError
from etl.utils.transactions import require_running, table_name

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

log = logging.getLogger(__name__)


def create_staged_day(db: Cursor, parent: str, staged: str, partition_value: str) -> None:
    """Make an empty table of the shape of `parent`, to be filled aside and published by `publish_day`."""
    db.execute(
        sql.SQL(
            "drop table if exists {staged}; create table {staged} (like {parent} including all excluding comments, "
            # says what the partition bound will say, so that attaching need not read the rows again
            "constraint one_day check (_partition_date is not null and _partition_date = {value})) "
            # publishing would wait for it
            "with (autovacuum_enabled = off)"
        ).format(staged=table_name(staged), parent=table_name(parent), value=sql.Literal(partition_value))
    )


SECONDS_TO_WAIT_FOR_LOCKS = 300.0
SECONDS_BEFORE_WARNING = 10.0
READERS_MAY_WAIT_MS = 100
"""Readers that come while we wait for the lock queue up behind us: so no try is longer than this."""
MAINTENANCE_MAY_WAIT_MS = 5_000
"""Longer than deadlock_timeout (1 s by default), after which PostgreSQL cancels an autovacuum that is in the way."""


def lock_for_publishing(db: Cursor, *tables: str) -> None:
    """Keep readers out of some tables until this transaction ends. They come first: it waits until none is at work.

    All locks or none: a reader who has one of the tables open and asks for the next is never in our way, nor we in his.
    Autovacuum, which would give way to neither of us within the time that readers may wait, is kept out first.

    Raises:
        PostgresError: a session that does not end its transaction keeps us out; the message names it.
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_LOCKS
    _lock(db, tables, "share update exclusive", MAINTENANCE_MAY_WAIT_MS, deadline)
    _lock(db, tables, "access exclusive", READERS_MAY_WAIT_MS, deadline)
    db.execute("set local lock_timeout to default")


def _lock(db: Cursor, tables: Sequence[str], mode: str, timeout_ms: int, deadline: float) -> None:
    lock = sql.SQL("savepoint before_lock; set local lock_timeout = {}; lock table {} in {} mode").format(
        sql.Literal(timeout_ms), sql.SQL(", ").join(map(table_name, tables)), sql.SQL(mode)
    )
    named = ", ".join(tables)
    warn_at: float | None = time.monotonic() + SECONDS_BEFORE_WARNING
    pause = 0.0
    while True:
        require_running()
        try:
            db.execute(lock)
        except psycopg2.errors.LockNotAvailable:
            db.execute("rollback to savepoint before_lock")
        else:
            return
        now = time.monotonic()
        if now > deadline:
            raise PostgresError(
                f"{named} cannot be published: {_holders(db, tables)}",
                hint="let it end, or end it with pg_terminate_backend(), then run again",
            )
        if warn_at and now > warn_at:
            log.warning("%s waits to be published: %s", named, _holders(db, tables))
            warn_at = None
        pause = min(pause + 0.05, 1.0)
        time.sleep(pause)


def _holders(db: Cursor, tables: Sequence[str]) -> str:
    """The sessions that have one of the tables, or a partition of one, open, in words."""
    db.execute(
        """
        select format(
            'process %%s of %%s (%%s, %%s) has held it open since %%s',
            pid, usename, coalesce(nullif(application_name, ''), 'no name'), state, date_trunc('second', xact_start)
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
    return "; ".join(holder for (holder,) in db.fetchall()) or "a session that has ended since held it"


def publish_day(db: Cursor, parent: str, staged: str, published: str, partition_value: str) -> None:
    """Put a staged day in place of its partition of `parent`; or its rows, where views hang on that partition."""
    names = {
        "published": table_name(published),
        "staged": table_name(staged),
        "schema": sql.Identifier(published.split(".", 1)[0]),
        "parent": table_name(parent),
        "value": sql.Literal(partition_value),
    }
    try:
        db.execute(sql.SQL("savepoint taking_place; drop table if exists {published}").format(**names))
    except psycopg2.errors.DependentObjectsStillExist:
        db.execute(sql.SQL("rollback to taking_place"))
        db.execute(
            "select from pg_inherits where inhrelid = %s::regclass and inhparent = %s::regclass", (published, parent)
        )
        if not db.rowcount:
            raise PostgresError(
                f"{published} cannot be replaced: it is not a partition of {parent}, and other objects depend on it",
                hint="drop what depends on it, or attach it again, then rerun",
            ) from None
        db.execute(
            sql.SQL("truncate {published}; insert into {published} select * from {staged}; drop table {staged}").format(
                **names
            )
        )
        return
    db.execute(
        sql.SQL(
            "alter table {staged} set schema {schema}; "
            "alter table {parent} attach partition {published} for values in ({value}); "
            "alter table {published} drop constraint one_day, reset (autovacuum_enabled)"
        ).format(**names)
    )
    note_changes(db, published)


def note_changes(db: Cursor, table: str) -> None:
    """Add a trigger that flags external changes in the ledger (meta.note_change in sql_scripts/meta/migrations)."""
    db.execute(
        sql.SQL(
            "create trigger note_change after insert or update or delete or truncate on {} "
            "for each statement execute function meta.note_change()"
        ).format(table_name(table))
    )


def create_text_table(db: Cursor, table: str, columns: Sequence[str]) -> None:
    """Make a fresh staging table with text columns."""
    db.execute(
        sql.SQL("drop table if exists {0}; create table {0} ({1})").format(
            table_name(table),
            sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in columns),
        )
    )


def empty_table(db: Cursor, table: str) -> None:
    """Remove all rows. Rows that come in the same transaction need no write-ahead log under wal_level=minimal."""
    db.execute(sql.SQL("truncate table {}").format(table_name(table)))


def table_columns(db: Cursor, table: str) -> list[str]:
    """The columns of a table, in its order, as Postgres knows them."""
    db.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
        "order by attnum",
        (table,),
    )
    return [name for (name,) in db.fetchall()]


def add_missing_column(db: Cursor, table: str, column: str, data_type: str) -> None:
    """Add a column to a table that a previous version created without it. Its existing rows get NULL.

    Looks first: even `add column if not exists` waits for every reader, and keeps those that come later waiting.

    Raises:
        PostgresError: see `lock_for_publishing`.
    """
    db.execute("select to_regclass(%s) is not null", (table,))
    if db.fetchone() != (True,) or column in table_columns(db, table):
        return
    lock_for_publishing(db, table)
    db.execute(
        sql.SQL("alter table {} add column {} {}").format(table_name(table), sql.Identifier(column), sql.SQL(data_type))
    )
    log.info("%s: column %s added", table, column)
