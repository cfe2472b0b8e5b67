"""SQL files are filled with values only where a value cannot end a comment or a literal."""

from __future__ import annotations

import re

import pytest

from etl.warehouse.sql_scripts import _COMMENT_LINE, SQL_SCRIPTS, read_script

PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
SCRIPTS = sorted(str(file.relative_to(SQL_SCRIPTS)) for file in SQL_SCRIPTS.rglob("*.sql"))


@pytest.mark.parametrize("script", [script for script in SCRIPTS if PLACEHOLDER.search(read_script(script))])
def test_placeholders_are_outside_of_comments_and_literals(script: str) -> None:
    text = _COMMENT_LINE.sub("", read_script(script))
    assert "/*" not in text
    for placeholder in PLACEHOLDER.finditer(text):
        before = text[: placeholder.start()]
        assert "--" not in before.rpartition("\n")[2], placeholder
        assert before.count("'") % 2 == 0, placeholder
