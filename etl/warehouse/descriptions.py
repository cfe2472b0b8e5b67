"""Write the descriptions of sql_scripts/descriptions.toml as comments on tables, views and columns."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.warehouse.sql_scripts import read_script


@cache
def read_descriptions() -> dict[str, Any]:
    """Return schema → table or view → column → comment. The key `description` is the comment on the table itself.

    The top-level key `columns` has the comments on columns that mean the same in every table.
    """
    return tomllib.loads(read_script("descriptions.toml"))


def apply_descriptions(db: Cursor, *schemas: str) -> None:
    """Write the descriptions of these schemas as comments on existing objects whose comment is missing or differs."""
    db.execute(
        """
        select nspname, relname, attname, col_description(pg_class.oid, attnum), relkind = 'v'
        from pg_class
        inner join pg_namespace on relnamespace = pg_namespace.oid
        cross join lateral (
            select attname, attnum from pg_attribute where attrelid = pg_class.oid and attnum > 0 and not attisdropped
            union all
            select null, 0
        ) as described
        where nspname = any(%s) and relkind in ('r', 'p', 'v') and not relispartition
        order by nspname, relname, attnum
        """,
        (list(schemas),),
    )
    for schema, table, column, current, is_view in db.fetchall():
        wanted = description_of(schema, table, column)
        if wanted and wanted != current:
            name = sql.Identifier(schema, table, *([column] if column else []))
            kind = "column" if column else "view" if is_view else "table"
            db.execute(sql.SQL("comment on {} {} is {}").format(sql.SQL(kind), name, sql.Literal(wanted)))


def description_of(schema: str, table: str, column: str | None = None) -> str | None:
    """Return the description of a table or view, or of one of its columns; None if there is none."""
    descriptions = read_descriptions()
    described = descriptions[schema].get(table)
    comment: str | None = described and (descriptions["columns"] | described).get(column or "description")
    return comment
