"""The notebooks run from top to bottom on the warehouse of the demo: on the sample and on the real files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from support import PROJECT

if TYPE_CHECKING:
    from conftest import Demo

NOTEBOOKS = sorted((PROJECT / "your_jup_notebooks").glob("*.ipynb"))
Shown = Mapping[str, str]
"""Cell id → output of the cell: text, Markdown and HTML."""


def executed(notebook: Path, folder: Path) -> Shown:
    """Execute a notebook in a kernel without settings, in the folder of the demo."""
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(content, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(PROJECT)})
    assert all(cell.execution_count for cell in content.cells if cell.cell_type == "code")
    return {cell.id: "\n".join(map(text_of, cell.outputs)) for cell in content.cells if cell.cell_type == "code"}


def text_of(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *(data[kind] for kind in sorted(data) if kind.startswith("text/"))])


def executed_all(folder: Path) -> dict[str, Shown]:
    with ThreadPoolExecutor(2) as executor:
        shown = executor.map(lambda notebook: executed(notebook, folder), NOTEBOOKS)
        return dict(zip((notebook.stem for notebook in NOTEBOOKS), shown, strict=True))


def rows_of(shown: str) -> list[list[str]]:
    """Return the cells of the HTML table in an output, row by row."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown, flags=re.DOTALL)]
    return [[unescape(cell).replace(",", "") for cell in row] for row in rows if row]


@pytest.fixture(scope="module")
def on_sample(demo: Demo) -> dict[str, Shown]:
    done = demo.run()
    assert done.returncode == 0, done.stderr
    return executed_all(demo.folder)


@pytest.fixture(scope="module")
def on_real(on_sample: dict[str, Shown], demo: Demo, real_data: Path) -> dict[str, Shown]:
    del on_sample  # the real files replace the sample
    done = demo.run("--data", str(real_data))
    assert done.returncode == 0, done.stderr
    return executed_all(demo.folder)


@pytest.fixture(scope="module")
def expected(real_data: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((real_data / "expected.json").read_text(encoding="utf-8"))
    return figures


def test_gold_notebook_shows_the_figures_of_the_sample(on_sample: dict[str, Shown]) -> None:
    gold = on_sample["gold_EDA"]
    assert "Of 82,365 rows, 98.7 % match a lead on e-mail and phone" in gold["match_scenarios"]
    assert ["email_only", "733", "30"] in rows_of(gold["match_scenarios"])
    assert len(rows_of(gold["leads_per_day"])) == 22
    assert "71 leads became high quality" in gold["new_high_quality_leads_per_day"]
    assert "Of 4,347 leads, 20.8 % had an appointment" in gold["conversion_funnel"]
    assert "The most frequent change of disposition is from Data to DQ-Bad Phone" in gold["status_changes"]
    assert "Suspect: 1 hash" in gold["suspect_hashes"]


def test_each_cell_of_the_gold_notebook_shows_a_sentence_and_rows(on_sample: dict[str, Shown]) -> None:
    for name, shown in on_sample["gold_EDA"].items():
        if name != "setup":
            assert re.search(r"\*\*.+\.\*\*", shown), name
            assert rows_of(shown), name


def test_silver_notebook_shows_the_figures_of_the_sample(on_sample: dict[str, Shown]) -> None:
    silver = on_sample["silver_EDA"]
    assert len(rows_of(silver["rows_per_day"])) == 22
    assert "location (first on 13 October 2024)" in silver["null_shares"]
    types = {name: kind for name, kind, *_ in rows_of(silver["distinct_values"])}
    assert types["appt_date"] == "timestamp without time zone"
    assert (
        "No lead number occurs twice on a day, and no id or hash belongs to two backend leads."
        in silver["duplicate_keys"]
    )
    assert "No row is rejected." in silver["rejected_rows"]
    changed = {day: (added, missing, moved) for day, added, missing, moved in rows_of(silver["header_drift"])}
    assert changed == {
        "2024-10-09": ("", "", "yes"),
        "2024-10-11": ("CityName", "CITY", ""),
        "2024-10-13": ("location", "", ""),
    }


def test_s3_notebook_describes_the_sample_and_masks_secrets(on_sample: dict[str, Shown]) -> None:
    s3 = on_sample["test_s3_access"]
    assert "s3_secret_access_key=SecretStr('**********')" in s3["setup"]
    assert [ok for _, ok, *_ in rows_of(s3["checks"])] == ["yes"] * 5
    assert "22 CSV files" in s3["files"]
    assert "no day is missing" in s3["files"]
    assert len(rows_of(s3["rows"])) == len(rows_of(s3["leads"])) == 5


def test_silver_notebook_shows_the_expected_figures_of_the_real_files(
    on_real: dict[str, Shown], expected: dict[str, Any]
) -> None:
    silver = on_real["silver_EDA"]
    rows = {day: int(count) for day, count, *_ in rows_of(silver["rows_per_day"])}
    assert rows == {day: counts["silver"] for day, counts in expected["partitions"].items()}
    distinct = {name: int(count) for name, _, _, count in rows_of(silver["distinct_values"])}
    wanted = {name: metrics["distinct"] for name, metrics in expected["silver_columns"].items()}
    # expected.json compares cities without trailing blanks
    assert {name: distinct[name] for name in wanted if name not in ("city", "_partition_date")} == {
        name: count for name, count in wanted.items() if name not in ("city", "_partition_date")
    }
    assert len(rows_of(silver["header_drift"])) == 3


def test_s3_notebook_describes_the_real_files(on_real: dict[str, Shown]) -> None:
    s3 = on_real["test_s3_access"]
    assert "8 CSV files" in s3["files"]
    assert "14 days between them without a file" in s3["files"]


def test_gold_notebook_shows_the_expected_figures_of_the_real_files(
    on_real: dict[str, Shown], expected: dict[str, Any]
) -> None:
    gold = on_real["gold_EDA"]
    assert {name: int(rows) for name, rows, _ in rows_of(gold["match_scenarios"])} == expected["match"]
    days = rows_of(gold["leads_per_day"])
    assert {day: int(total) for day, total, *_ in days} == expected["total_leads_daily"]
    assert {day: int(new) for day, _, new, *_ in days} == expected["new_leads_daily"]
    graded = rows_of(gold["lead_quality_distribution"])
    assert {flag: int(rows) for flag, rows, *_ in graded} == expected["quality_rows"]
    assert {flag: int(leads) for flag, _, leads, _ in graded} == expected["quality_leads"]
    high_quality = rows_of(gold["new_high_quality_leads_per_day"])
    new_ones = {day: int(count) for day, count in high_quality}
    assert {day: count for day, count in new_ones.items() if count} == expected["new_high_quality_leads_daily"]
    assert list(new_ones) == list(expected["total_leads_daily"]), "a day without new leads is shown, too"
    assert next(int(high) for _, high, *_ in rows_of(gold["lead_quality_per_day"])) == new_ones["2024-10-01"]
    assert "a4e3b6a6" in gold["suspect_hashes"]
