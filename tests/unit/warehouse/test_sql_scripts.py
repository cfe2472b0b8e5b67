"""SQL files are filled with values only where a value cannot end a comment or a literal."""

from __future__ import annotations

import re

import pytest
from psycopg2 import sql

from etl.warehouse.sql_scripts import SQL_SCRIPTS, read_script, script_text

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
SCRIPTS = sorted(str(file.relative_to(SQL_SCRIPTS)) for file in SQL_SCRIPTS.rglob("*.sql"))
VALUE = "«value»"


@pytest.mark.parametrize("script", [script for script in SCRIPTS if PLACEHOLDER.search(read_script(script))])
def test_values_are_outside_of_comments_and_literals(script: str) -> None:
    names = PLACEHOLDER.findall(read_script(script))
    text = script_text(script, **dict.fromkeys(names, sql.SQL(VALUE))).as_string(None)
    assert VALUE in text
    assert "/*" not in text
    for value in re.finditer(VALUE, text):
        before = text[: value.start()]
        assert "--" not in before.rpartition("\n")[2], before
        assert before.count("'") % 2 == 0, before
