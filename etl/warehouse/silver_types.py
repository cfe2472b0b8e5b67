"""Apply the column types that sql_scripts/silver/apply_silver_types.sql declares to the tables of silver.

A table that contains rows is altered in place, with all its partitions at once. Only tables that a later step
rebuilds are emptied if their rows do not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.errors import PostgresError
from etl.warehouse.partitions import empty_table
from etl.warehouse.sql_scripts import run_sql
from etl.warehouse.tables import ROW_VERSION_TABLES, SILVER_LEADS, SILVER_SNAPSHOTS

log = logging.getLogger(__name__)

DECLARATION = "silver/apply_silver_types.sql"
TYPED_TABLES = (SILVER_SNAPSHOTS, SILVER_LEADS, *ROW_VERSION_TABLES)
"""The tables of silver to which the declared types apply, if they exist."""


class TypeChange(NamedTuple):
    """The change that gives the columns of a table their declared types."""

    table: str
    columns: str
    """Description for messages, as in `dispo from character varying(50) to varchar(80)`."""
    statement: str


def pending_type_changes(db: Cursor, tables: Iterable[str]) -> list[TypeChange]:
    """Return the changes that tables need, in the order of the tables. Tables that do not exist are ignored."""
    run_sql(db, DECLARATION, tables=sql.Literal(list(tables)))
    return [TypeChange(*row) for row in db.fetchall()]


def apply_type_changes(db: Cursor, changes: Iterable[TypeChange]) -> None:
    """Apply type changes to tables that this transaction has locked, or created.

    A table in `ROW_VERSION_TABLES` is emptied if its rows do not fit the new types: a later step rebuilds it.

    Raises:
        PostgresError: an object uses one of the columns, a value does not fit its new type, or the declaration is
            wrong; the message names table, columns and cause.
    """
    for change in changes:
        try:
            if change.table in ROW_VERSION_TABLES:
                _alter_or_empty(db, change)
            else:
                db.execute(change.statement)
        except psycopg2.errors.InsufficientPrivilege:
            raise  # has a hint of its own
        except (psycopg2.DataError, psycopg2.NotSupportedError, psycopg2.ProgrammingError) as error:
            message = "; ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            raise PostgresError(
                f"{change.table} cannot be altered ({change.columns}): {message}",
                hint=f"nothing was changed: fix the values, or sql_scripts/{DECLARATION}, and rerun. If "
                "a view or another object depends on the column, save its definition (of a view: select "
                "pg_get_viewdef('…')), drop it, rerun, and create it again",
            ) from error
        if pending := pending_type_changes(db, [change.table]):
            raise PostgresError(
                f"{change.table} still differs from the declaration after it was altered: {pending[0].columns}",
                hint=f"nothing was changed: spell the type in sql_scripts/{DECLARATION} as PostgreSQL shows it in "
                "psql's \\d, then rerun",
            )
        log.debug("%s: types applied: %s", change.table, change.columns)


def _alter_or_empty(db: Cursor, change: TypeChange) -> None:
    db.execute("savepoint before_alter")
    try:
        db.execute(change.statement)
    except psycopg2.DataError as error:
        db.execute("rollback to savepoint before_alter")
        log.info(
            "%s was emptied, because its rows do not fit the new types (%s); step 6 rebuilds it",
            change.table,
            error.diag.message_primary,
        )
        empty_table(db, change.table)
        db.execute(change.statement)
