"""img/etl-leads-project.svg shows the steps, tables and sources, with a light and a dark theme."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from etl.pipeline import STEPS
from tools.er_diagram import PLACES

PROJECT = Path(__file__).parents[2]
PICTURE = PROJECT / "img" / "etl-leads-project.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """Return the texts of the image."""
    return [(text.text or "").strip() for text in ET.parse(PICTURE).getroot().iter(f"{SVG}text")]


def test_diagram_shows_the_six_steps_by_number_and_title(shown: list[str]) -> None:
    for step in STEPS:
        assert str(step.number) in shown
        assert step.title in shown


def test_diagram_shows_the_three_layers_and_the_tables_of_gold(shown: list[str]) -> None:
    assert {"bronze", "silver", "gold"} <= set(shown)
    assert {name for names in PLACES for name in names} <= set(shown)


def test_diagram_shows_sources_and_readers(shown: list[str]) -> None:
    assert {"SFTP/data_1.csv", "leads.parquet", "notebooks", "report", "psql"} <= set(shown)


@pytest.mark.parametrize("name", ["etl-leads-project.svg", "gold-model.svg"])
def test_images_have_a_dark_theme_and_load_nothing(name: str) -> None:
    text = (PROJECT / "img" / name).read_text(encoding="utf-8")
    assert "@media (prefers-color-scheme: dark)" in text
    assert re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)", text.replace('xmlns="', "")) == []
    light, dark = (set(re.findall(r"--[\w-]+(?=: #)", part)) for part in text.split("@media")[:2])
    assert light == dark, "each colour has a dark counterpart"


def test_readme_shows_both_pictures() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert "](img/etl-leads-project.svg)" in readme
    assert "](img/graph.png)" in readme
