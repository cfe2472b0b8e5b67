"""Tables, views, columns and keys of a schema, read from the system catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_SHORT_NAMES = {
    "character varying": "varchar",
    "character": "char",
    "integer": "int",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "double precision": "float",
}


class Relation(NamedTuple):
    """A table or view, with its comment."""

    oid: int
    name: str
    is_view: bool
    meaning: str


class Column(NamedTuple):
    """A column, with the short name of its type, such as `varchar(255)`, and its comment."""

    name: str
    kind: str
    not_null: bool
    meaning: str


class Key(NamedTuple):
    """A key of a table: `kind` is p (primary), u (unique) or f (foreign); `parent` is the table that it references."""

    kind: str
    definition: str
    columns: list[str]
    parent: str | None


def relations(db: Cursor, schema: str) -> list[Relation]:
    """Return the tables and views of a schema by name, without partitions."""
    db.execute(
        """
        select oid, relname, relkind = 'v', obj_description(oid, 'pg_class')
        from pg_class
        where relnamespace = %s::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
        order by relname
        """,
        (schema,),
    )
    return [Relation(*row) for row in db.fetchall()]


def columns(db: Cursor, oid: int) -> list[Column]:
    """Return the columns of a table or view, in order."""
    db.execute(
        """
        select attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum)
        from pg_attribute
        where attrelid = %s and attnum > 0 and not attisdropped
        order by attnum
        """,
        (oid,),
    )
    return [Column(name, _short(kind), *rest) for name, kind, *rest in db.fetchall()]


def keys(db: Cursor, oid: int) -> list[Key]:
    """Return the keys of a table, by name of the constraint."""
    db.execute(
        """
        select
            contype,
            pg_get_constraintdef(oid),
            array(
                select attname::text from unnest(conkey) with ordinality as key (attnum, place)
                inner join pg_attribute using (attnum)
                where attrelid = conrelid
                order by place
            ),
            (select relname from pg_class where pg_class.oid = confrelid)
        from pg_constraint
        where conrelid = %s and contype in ('p', 'u', 'f')
        order by conname
        """,
        (oid,),
    )
    return [Key(*row) for row in db.fetchall()]


def _short(kind: str) -> str:
    name, bracket, size = kind.partition("(")
    return f"{_SHORT_NAMES.get(name, name)}{bracket}{size}"
