"""The pure parts of the benchmarks: figures, tables, pins. Nothing is timed here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench, report
from benchmarks.measure import COPY_DATA, _Messages

PROJECT = Path(__file__).parents[2]


def a_run(seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": seconds / 2,
        "server_cpu_seconds": seconds / 4,
        "peak_memory_bytes": 123_000_000,
        "step_seconds": {"1 schemas and tables": seconds / 10},
    }


def a_scale(rows: int, *rounds: dict[str, float]) -> dict[str, Any]:
    return {
        "rounds": [{run: a_run(seconds) for run, seconds in found.items()} for found in rounds],
        "counts": {},
        "rows": {"bronze.csv_snapshots": rows},
    }


MACHINE = dict.fromkeys(("date", "cores", "memory_gb", "python", "postgres", "duckdb", "rounds"), "?")


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    rounds = [
        {"full refresh": a_run(1), "duckdb": a_run(2)},
        {"full refresh": a_run(30), "duckdb": a_run(10)},
        {"full refresh": a_run(4), "duckdb": a_run(5)},
    ]
    assert report.ratio(rounds, "full refresh", "duckdb") == pytest.approx(0.8)
    assert report.seconds(rounds, "full refresh") == 4


def test_figures_are_only_those_that_were_measured() -> None:
    results = {"scales": {"1": a_scale(100, {"full refresh": 3, "duckdb": 2})}}
    assert [(figure.name, figure.value, figure.verdict) for figure in report.figures(results)] == [
        ("scale 1: full refresh ÷ DuckDB", 1.5, "missed"),
        ("scale 1: peak memory", 123.0, ""),
    ]


def test_time_per_row_is_compared_between_scales() -> None:
    results = {
        "scales": {
            "10": a_scale(1_000, {"full refresh": 10}),
            "100": a_scale(10_000, {"full refresh": 110, "first load": 100}),
        },
        "one file": a_scale(5_000, {"first load": 60}),
    }
    values = {figure.name: (round(figure.value, 6), figure.verdict) for figure in report.figures(results)}
    assert values["time per row, scale 100 ÷ scale 10"] == (1.1, "met")
    assert values["time per row, one file of 5 million rows ÷ scale 100"] == (1.2, "met")


def test_every_line_of_every_table_has_as_many_cells_as_its_header() -> None:
    results: dict[str, Any] = {"machine": MACHINE, "scales": {"1": a_scale(100, {"full refresh": 3, "duckdb": 2})}}
    counted = (
        "statements",
        "commits",
        "sent_bytes",
        "copied_in_bytes",
        "received_bytes",
        "copied_out_bytes",
        "wal_bytes",
    )
    results["scales"]["1"]["counts"] = {"full refresh": dict.fromkeys(counted, 1_234_567)}
    tables = [part.splitlines() for part in report.render(results).split("\n\n") if part.startswith("|")]
    assert [{line.count("|") for line in table} for table in tables] == [{5}, {8}, {3}, {10}]
    assert "| scale 1 | full refresh | 1,234,567 | 1,234,567 | 1.2 |" in "\n".join(tables[-1])


def test_tables_replace_what_stands_between_the_markers() -> None:
    document = bench.INTRODUCTION + "\n## What bounds it\n"
    once = report.replace_between_markers(document, "| first |")
    twice = report.replace_between_markers(once, "| second |")
    assert "| first |" not in twice
    assert twice.startswith("# Performance")
    assert twice.endswith("## What bounds it\n")
    with pytest.raises(ValueError, match="must both stand"):
        report.replace_between_markers("# no markers", "")


def test_messages_are_counted_however_they_arrive() -> None:
    start_up = b"\0\0\0\x08\0\3\0\0"
    stream = start_up + b"Q\0\0\0\x0bselect" + b"\0" + b"d\0\0\0\x07abc" + b"d\0\0\0\x05x" + b"c\0\0\0\x04"
    for size in (1, 3, 7, len(stream)):
        messages = _Messages(untyped=1)
        for position in range(0, len(stream), size):
            messages.read(stream[position : position + size])
        assert messages.total == len(stream)
        assert (messages.count[ord("Q")], messages.count[COPY_DATA], messages.payload[COPY_DATA]) == (1, 2, 4)


def test_requirements_of_the_peers_are_pinned_and_of_one_version() -> None:
    lines = (PROJECT / "benchmarks" / "peers" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 and re.fullmatch(r"[0-9.]+", pin[1]) for pin in pins)
    assert [name for name, _ in pins] == ["duckdb", "duckdb-extension-httpfs", "duckdb-extension-postgres-scanner"]
    assert len({version for _, version in pins}) == 1
