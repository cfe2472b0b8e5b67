"""Code and documents use the terms of PostgreSQL, pandas and dbt, not those of a private language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FILES = [
    *(PROJECT / name for name in ("main.py", "README.md", ".env.example")),
    *(
        path
        for folder in ("etl", "sql_scripts")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in (".py", ".sql")
    ),
    *(path for path in (PROJECT / "docs").glob("*.md") if path.name != "reliability.md"),  # that one lists test names
]
PRIVATE_WORDS = (
    *("the books", "made out", "put right", "by other hands", "in hand", "half done", "mend", "stand there twice"),
    *("hold_the_run", "as_they_stand", "made_by", "carry_leads_on", "begun_early", "says_nothing", "untypable"),
)


@pytest.mark.parametrize("word", PRIVATE_WORDS)
def test_private_word_is_not_used(word: str) -> None:
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    found = [path.relative_to(PROJECT) for path in FILES if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == []
