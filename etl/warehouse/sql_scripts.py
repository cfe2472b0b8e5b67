"""Read and execute the files of sql_scripts/, with their placeholders filled in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

SQL_SCRIPTS = Path(__file__).parents[2] / "sql_scripts"


def quote_identifier(qualified: str) -> sql.Identifier:
    """Quote a table name of the form `schema.table`."""
    return sql.Identifier(*qualified.split(".", 1))


def quote_identifiers(names: Iterable[str]) -> sql.Composable:
    """Quote column names and join them by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def run_sql(db: Cursor, script: str, **names: sql.Composable) -> int:
    """Execute a file of sql_scripts/. Returns the row count of its last statement."""
    db.execute(script_text(script, **names))
    return db.rowcount


def script_text(script: str, **names: sql.Composable) -> sql.Composable:
    """Return a file of sql_scripts/ with its `{placeholders}` replaced by the given SQL, such as quoted names.

    Comment lines are left out: the text after a line break in a value would be executed. Without `names`, the file is
    returned as it is, and may contain other braces.
    """
    text = read_script(script)
    return sql.SQL(_COMMENT_LINE.sub("", text)).format(**names) if names else sql.SQL(text)


_COMMENT_LINE = re.compile(r"^ *--.*\n", re.MULTILINE)


@cache
def scripts_digest(*scripts: str, also: Sequence[str] = ()) -> str:
    """Return a digest of SQL files and of other texts that determine their result, such as column names."""
    return hashlib.sha256("".join([*map(read_script, scripts), *also]).encode()).hexdigest()


def table_exists(db: Cursor, table: str) -> bool:
    db.execute("select to_regclass(%s) is not null", (table,))
    return db.fetchone() == (True,)


def query_dicts(db: Cursor, query: str | sql.Composable, *values: object) -> list[dict[str, Any]]:
    """Execute a query with values for its `%s`, if any. Returns its rows, each as column → value."""
    db.execute(query, values or None)
    names = [column.name for column in db.description or ()]
    return [dict(zip(names, row, strict=True)) for row in db.fetchall()]


@cache
def read_script(script: str) -> str:
    """Return the text of a file of sql_scripts/."""
    return (SQL_SCRIPTS / script).read_text(encoding="utf-8")
