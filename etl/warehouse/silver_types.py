"""Apply the column types that sql_scripts/silver/apply_silver_types.sql declares to the tables of silver.

A table that contains rows is altered in place, with all its partitions at once. Only tables that a later step
rebuilds are emptied if their rows do not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import psycopg2
from psycopg2 import sql

from etl.utils.errors import PostgresError
from etl.warehouse.partitions import empty_table
from etl.warehouse.sql_scripts import run_sql
from etl.warehouse.tables import SILVER_LEADS, SILVER_SNAPSHOTS

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

log = logging.getLogger(__name__)

DECLARATION = "silver/apply_silver_types.sql"
TYPED_TABLES = (SILVER_SNAPSHOTS, SILVER_LEADS)
"""The tables of silver to which the declared types apply."""
DERIVED_TABLES = ("silver.row_contents", "silver.version_matches", "silver.matched_leads")
"""Tables that step 6 builds from TYPED_TABLES. If they exist, the declared types apply to them, too."""


class TypeChange(NamedTuple):
    """The change that gives the columns of a table their declared types."""

    table: str
    column_names: Sequence[str]
    columns: str
    """Description for messages, as in `dispo from character varying(50) to varchar(80)`."""
    statement: str


def pending_type_changes(db: Cursor, tables: Iterable[str]) -> list[TypeChange]:
    """Return the changes that tables need, in the order of the tables. Tables that do not exist are ignored."""
    run_sql(db, DECLARATION, tables=sql.Literal(list(tables)))
    return [TypeChange(*row) for row in db.fetchall()]


def apply_type_changes(db: Cursor, changes: Iterable[TypeChange]) -> None:
    """Apply type changes to tables that this transaction has locked, or created.

    A table in `DERIVED_TABLES` is emptied if its rows do not fit the new types: a later step rebuilds it.

    Raises:
        PostgresError: an object uses one of the columns, a value does not fit its new type, or the declaration is
            wrong; the message names table, columns and cause.
    """
    for change in changes:
        _require_no_dependents(db, change)
        try:
            if change.table in DERIVED_TABLES:
                _alter_or_empty(db, change)
            else:
                db.execute(change.statement)
        except psycopg2.errors.InsufficientPrivilege:
            raise  # has a hint of its own
        except (psycopg2.DataError, psycopg2.NotSupportedError, psycopg2.ProgrammingError) as error:
            raise PostgresError(
                f"{change.table} cannot be altered ({change.columns}): {error.diag.message_primary}",
                hint=f"nothing was changed: fix the values or the declaration, sql_scripts/{DECLARATION}, and rerun",
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


def _require_no_dependents(db: Cursor, change: TypeChange) -> None:
    """Raise if PostgreSQL would refuse to alter columns because views or other objects use them."""
    db.execute(
        """
        select
            string_agg(distinct attname, ', '),
            array_agg(distinct coalesce(
                case relkind when 'v' then 'view ' when 'm' then 'materialized view ' end || ev_class::regclass::text,
                pg_describe_object(classid, objid, 0)
            ))
        from pg_depend
        inner join pg_attribute on attrelid = refobjid and attnum = refobjsubid
        left join pg_rewrite on classid = 'pg_rewrite'::regclass and pg_rewrite.oid = objid
        left join pg_class on pg_class.oid = ev_class
        where
            refclassid = 'pg_class'::regclass
            and (refobjid = %(table)s::regclass or refobjid in (select relid from pg_partition_tree(%(table)s)))
            and attname = any(%(columns)s)
            -- PostgreSQL rebuilds these by itself
            and classid <> all('{pg_class,pg_constraint,pg_attrdef,pg_statistic_ext}'::regclass[])
        """,
        {"table": change.table, "columns": list(change.column_names)},
    )
    columns, dependents = db.fetchone() or (None, None)
    if dependents:
        raise PostgresError(
            f"{change.table} cannot be altered ({change.columns}), because "
            f"these objects use {columns}: {', '.join(dependents)}",
            hint="nothing was changed: save the definitions of these objects (of a view: select pg_get_viewdef('…')), "
            "drop them, rerun, and create them again",
        )
