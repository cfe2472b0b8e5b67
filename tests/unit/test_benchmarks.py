"""What can be tested of the benchmarks without measuring: medians, ratios, targets, tables; and the peers' pins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report

PEERS = Path(report.__file__).parent / "peers"


def measured(seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": seconds,
        "server_cpu_seconds": 2 * seconds,
        "peak_memory_bytes": 500_000_000,
        "step_seconds": {"2 S3 → bronze": seconds / 2},
        **more,
    }


ROUNDS = [
    {"full refresh": measured(refresh), "duckdb": measured(duckdb), "floor": measured(1.0)}
    for refresh, duckdb in ((2.0, 1.0), (9.0, 3.0), (4.0, 4.0))
]
RESULTS = {
    "machine": {"date": "d", "cores": 2, "memory_gb": 1, "python": "3", "postgres": "18", "duckdb": "1", "rounds": 3},
    "scales": {
        "100": {
            "rounds": ROUNDS,
            "counts": {
                "duckdb": dict.fromkeys(
                    (
                        "statements",
                        "commits",
                        "sent_bytes",
                        "copied_in_bytes",
                        "received_bytes",
                        "copied_out_bytes",
                        "wal_bytes",
                    ),
                    1_000_000,
                )
            },
            "rows": {"bronze.csv_snapshots": 1000},
        }
    },
}


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    assert report.ratio(ROUNDS, "full refresh", "duckdb") == 2.0
    assert report.ratio(ROUNDS, "full refresh", "nobody") is None


def test_figures_are_held_against_their_targets() -> None:
    verdicts = {figure.name: figure.verdict for figure in report.figures(RESULTS)}
    assert verdicts["scale 100: full refresh ÷ DuckDB"] == "missed"
    assert verdicts["scale 100: full refresh ÷ COPY floor"] == "missed"
    assert verdicts["scale 100: peak memory"] == "met"


def test_what_was_not_measured_is_left_out() -> None:
    names = [figure.name for figure in report.figures(RESULTS)]
    assert not [name for name in names if "new day" in name or "scale 10:" in name]


def test_every_table_has_as_many_cells_in_each_line_as_in_its_head() -> None:
    text = report.render(RESULTS)
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        widths = {line.count("|") for line in table.strip().splitlines()}
        assert len(widths) == 1, table
    assert "| scale 100 | duckdb | 1,000,000 |" in text


def test_what_stands_around_the_markers_stays() -> None:
    document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    replaced = report.replace_between_markers(document, "new")
    assert replaced == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="must both stand"):
        report.replace_between_markers("no markers", "new")


def test_the_peers_are_pinned() -> None:
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith(("#", " "))]
    assert pinned
    assert all(re.fullmatch(r"[a-z0-9_-]+==[0-9.]+", line) for line in pinned), pinned
