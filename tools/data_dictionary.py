"""`make dictionary`: docs/data_dictionary.md, img/gold-model.svg and files of integrations/, from the database.

Steps 1, 4 and 5 define everything in an embedded PostgreSQL of its own, which is gone afterwards.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.engine.runner import run_steps
from etl.local.demo import demo_settings
from etl.local.embedded import temporary_postgres
from etl.pipeline import STEPS
from etl.utils.utils_connection import connect_postgres
from tools import dbt_sources, er_diagram, superset_assets
from tools.type_names import short_type

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

DOCUMENT = Path(__file__).parents[1] / "docs" / "data_dictionary.md"
SCHEMAS = ("gold", "silver", "bronze", "meta")
"""Those that people read, the ones nearest to them first."""

INTRODUCTION = """\
# Data dictionary

Every table and view of the warehouse, with its columns: what the database says of itself in comments and types. Made
by `make dictionary`; a test fails when it is stale.

![The tables of gold and how they refer to each other](../img/gold-model.svg)
"""


def generated_files(db: Cursor) -> dict[Path, str]:
    """Return the text of each generated file, for the database that a cursor looks at."""
    return {
        DOCUMENT: render(db),
        er_diagram.PICTURE: er_diagram.render(db),
        dbt_sources.SOURCES: dbt_sources.render(db),
        **superset_assets.render(db),
    }


def render(db: Cursor) -> str:
    """Return the document."""
    return "\n".join([INTRODUCTION, *(part for schema in SCHEMAS for part in _schema(db, schema))])


def _schema(db: Cursor, schema: str) -> list[str]:
    db.execute("select obj_description(%s::regnamespace, 'pg_namespace')", (schema,))
    (says,) = db.fetchone() or ("",)
    db.execute(
        """
        select oid, relname, relkind = 'v', obj_description(oid, 'pg_class')
        from pg_class
        where relnamespace = %s::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
        order by relkind = 'v', relname
        """,
        (schema,),
    )
    relations = db.fetchall()
    db.execute(
        """
        select format('### %%s.%%s(%%s)', %s, proname, pg_get_function_arguments(oid)), obj_description(oid, 'pg_proc')
        from pg_proc
        where pronamespace = %s::regnamespace and proretset
        order by proname
        """,
        (schema, schema),
    )
    functions = [f"{title}\n\n{says}\n" for title, says in db.fetchall()]
    return [f"## {schema}\n\n{says}\n", *(_relation(db, schema, *relation) for relation in relations), *functions]


def _relation(db: Cursor, schema: str, oid: int, name: str, is_view: bool, says: str) -> str:
    db.execute(
        """
        select
            attname,
            format_type(atttypid, atttypmod),
            attnotnull,
            col_description(attrelid, attnum)
        from pg_attribute
        where attrelid = %s and attnum > 0 and not attisdropped
        order by attnum
        """,
        (oid,),
    )
    lines = [
        f"| `{column}` | {short_type(kind)}{' not null' if not_null else ''} | {_cell(meaning)} |"
        for column, kind, not_null, meaning in db.fetchall()
    ]
    title = f"### {schema}.{name}{' (view)' if is_view else ''}"
    head = [f"{title}\n\n{says}\n", *_keys(db, oid), "| column | type | meaning |", "|---|---|---|"]
    return "\n".join([*head, *lines, ""])


def _keys(db: Cursor, oid: int) -> list[str]:
    db.execute(
        "select pg_get_constraintdef(oid) from pg_constraint "
        "where conrelid = %s and contype in ('p', 'u', 'f') order by contype desc, conname",
        (oid,),
    )
    keys = [f"- {definition}" for (definition,) in db.fetchall()]
    return [*keys, ""] if keys else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Define the warehouse anew, and write the files."""
    with temporary_postgres() as postgres:
        settings = demo_settings(postgres, "http://127.0.0.1:9")  # S3 is not asked
        report = run_steps(settings, [STEPS[0], STEPS[3], STEPS[4]])
        if report.error:
            raise report.error
        with closing(connect_postgres(settings)) as connection, connection.cursor() as db:
            files = generated_files(db)
    shutil.rmtree(superset_assets.ASSETS, ignore_errors=True)  # with files of charts that are gone
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"{len(files)} files are up to date, such as {DOCUMENT}")


if __name__ == "__main__":
    main()
