"""The parts of the benchmarks that can be tested without measuring: cases, figures, tables, pins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks import bench, cases, growth, profile, report, rounds
from benchmarks.default_postgres import installed_programs
from benchmarks.measure import COPY_DATA, Messages
from benchmarks.real_shape import (
    BASE,
)

PROJECT = Path(__file__).parents[2]

# --- Cases ------------------------------------------------------------------------------------------------------------


def test_cases_change_the_objects_of_their_name() -> None:
    objects = {case.name: case.objects for case in cases.CASES}
    assert objects["unchanged"] == objects["late day"] == cases.BASE_OBJECTS
    assert objects["new day"].keys() - cases.BASE_OBJECTS.keys() == {"SFTP/data_23.csv"}
    assert "SFTP/data_7.csv" not in cases.WAREHOUSES[cases.WITHOUT_LATE_DAY]
    changed = {key for key, part in objects["corrected day"].items() if part != BASE}
    assert changed == {"SFTP/data_11.csv"}
    assert all(
        case.objects.items() - cases.WAREHOUSES[case.warehouse].items() or case.name == "unchanged"
        for case in cases.CASES
    )


def test_every_case_has_a_row_in_the_tables_and_in_the_introduction() -> None:
    introduction = bench.INTRODUCTION.read_text(encoding="utf-8")
    for case in cases.CASES:
        assert case.name in report.SHARE_TARGETS
        assert f"| {case.name} |" in introduction
    assert report.PEER_TITLES.keys() == rounds.PEER_ARGUMENTS.keys()
    assert cases.FULL_REFRESH.name == report.FULL_REFRESH


def test_unknown_values_of_an_option_are_refused() -> None:
    assert bench.listed("--cases", ["new-day", "late-day"], "late-day,new-day,late-day") == ["late-day", "new-day"]
    with pytest.raises(click.UsageError, match="--cases: unknown tomorrow; choose from new-day, late-day"):
        bench.listed("--cases", ["new-day", "late-day"], "tomorrow")


def test_server_that_is_not_installed_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "is_available", lambda kind: kind == "embedded")
    assert bench.chosen_servers("both") == ["embedded"]
    assert "Skipping the default server" in capsys.readouterr().err
    assert bench.chosen_servers("default") == ["default"], "a server requested by name fails with a hint"


def test_oldest_supported_postgres_of_the_distribution_is_preferred(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.default_postgres.INSTALLED", tmp_path)
    assert installed_programs() is None
    for version in (14, 16, 17, 15):
        program = tmp_path / str(version) / "bin" / "initdb"
        program.parent.mkdir(parents=True)
        program.touch()
        expected = {14: None, 16: 16, 17: 17, 15: 15}[version]
        found = installed_programs()
        assert (int(found.parent.name) if found else None) == expected


def test_row_counts_that_differ_are_named() -> None:
    expected = dict.fromkeys(rounds.ALL_TABLES, 5) | {"gold rows, email_match True, phone_match True": 5}
    shared = {name: 5 for name in expected if name in rounds.SHARED_TABLES or name.startswith("gold rows")}
    rounds.check_same_rows("duckdb", shared, expected)
    with pytest.raises(Exception, match=r"gold.lead_quality_matching': \(4, 5\)"):
        rounds.check_same_rows("duckdb", shared | {"gold.lead_quality_matching": 4}, expected)
    with pytest.raises(Exception, match=r"email_match True, phone_match True': \(None, 5\)"):
        rounds.check_same_rows("duckdb", dict.fromkeys(rounds.SHARED_TABLES, 5), expected)


# --- Figures and tables -----------------------------------------------------------------------------------------------


def a_run(seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": seconds / 2,
        "server_cpu_seconds": seconds / 4,
        "other_cpu_seconds": seconds / 8,
        "peak_memory_bytes": 123_000_000,
        "step_seconds": {"1 schemas and tables": seconds / 10},
    }


def a_scale(rows: int, *rounds: dict[str, float]) -> dict[str, Any]:
    return {
        "rounds": [{run: a_run(seconds) for run, seconds in found.items()} for found in rounds],
        "counts": {},
        "rows": {"bronze.csv_snapshots": rows},
    }


MACHINE = dict.fromkeys(("date", "cores", "memory_gb", "python", "duckdb", "rounds", "data"), "?")


def test_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    rounds = [
        {"full refresh": a_run(1), "duckdb": a_run(2)},
        {"full refresh": a_run(30), "duckdb": a_run(10)},
        {"full refresh": a_run(4), "duckdb": a_run(5)},
    ]
    assert report.ratio(rounds, "full refresh", "duckdb") == pytest.approx(0.8)
    assert report.ratio(rounds, "full refresh", "floor") is None
    assert report.seconds(rounds, "full refresh") == 4


def test_figures_include_only_measured_values() -> None:
    found = {"scales": {"10": a_scale(100, {"full refresh": 3, "duckdb-same-work": 2, "new day": 0.3, "late day": 3})}}
    assert [(figure.name, round(figure.value, 3), figure.verdict) for figure in report.figures(found)] == [
        ("scale 10: new day ÷ full refresh", 0.1, "met"),
        ("scale 10: late day ÷ full refresh", 1.0, ""),
        ("scale 10: full refresh ÷ DuckDB, same work", 1.5, "missed"),
        ("scale 10: peak memory", 123.0, ""),
    ]


def test_time_per_row_is_compared_between_scales() -> None:
    found = {
        "scales": {
            "10": a_scale(1_000, {"full refresh": 10}),
            "100": a_scale(10_000, {"full refresh": 110, "first load": 100}),
        },
        "one file": a_scale(5_000, {"first load": 60}),
    }
    values = {figure.name: (round(figure.value, 6), figure.verdict) for figure in report.figures(found)}
    assert values["time per row, scale 100 ÷ scale 10"] == (1.1, "met")
    assert values["time per row, one file of 5 million rows ÷ scale 100"] == (1.2, "met")


def test_peak_memory_is_the_largest_of_the_pipelines_runs() -> None:
    rounds = [{"full refresh": a_run(1), "new day": a_run(1), "duckdb": a_run(1)} for _ in range(3)]
    for measured, peak in zip(rounds, (200e6, 300e6, 900e6), strict=True):
        measured["new day"]["peak_memory_bytes"] = peak
        measured["duckdb"]["peak_memory_bytes"] = 5e9
    assert report.peak_megabytes(rounds) == 300


def test_every_line_of_every_table_has_as_many_cells_as_its_header() -> None:
    at_scale = a_scale(100, {"full refresh": 3, "duckdb": 2, "new day": 1})
    sizes = ("sent_bytes", "copied_in_bytes", "received_bytes", "copied_out_bytes", "wal_bytes")
    at_scale["counts"] = {"full refresh": dict.fromkeys(("statements", "commits", *sizes), 1_234_567)}
    servers: dict[str, Any] = {
        "embedded": {"postgres": "18.4", "scales": {"1": at_scale}},
        "default": {"postgres": "15.9", "scales": {"1": a_scale(100, {"full refresh": 3})}},
    }
    text = report.render({"machine": MACHINE, "servers": servers})
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert [{line.count("|") for line in table} for table in tables] == [{5}, {11}, {4}, {10}, {11}, {3}]
    assert "| scale 1: new day ÷ full refresh |  | 0.33 |  |" in text, "not measured on one of the servers"
    assert "| scale 1 | full refresh | 1,234,567 | 1,234,567 | 1.2 |" in text
    assert "## Default server: PostgreSQL 15.9" in text


def test_introduction_and_tables_are_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    bench.write_document(path, "| first |")
    path.write_text(path.read_text().replace("# Performance", "# Old title") + "\n## What bounds it\n")
    bench.write_document(path, "| second |")
    document = path.read_text()
    assert document.startswith(bench.INTRODUCTION.read_text() + report.BEGIN)
    assert "| first |" not in document
    assert "| second |" in document
    assert document.endswith("## What bounds it\n")
    path.write_text("# no markers")
    with pytest.raises(ValueError, match="must have the markers"):
        bench.write_document(path, "")


def test_performance_document_begins_with_the_introduction() -> None:
    document = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert document.startswith(bench.INTRODUCTION.read_text(encoding="utf-8") + report.BEGIN)


# --- Measuring --------------------------------------------------------------------------------------------------------


def test_messages_are_counted_in_chunks_of_any_size() -> None:
    start_up = b"\0\0\0\x08\0\3\0\0"
    stream = start_up + b"Q\0\0\0\x0bselect" + b"\0" + b"d\0\0\0\x07abc" + b"d\0\0\0\x05x" + b"c\0\0\0\x04"
    for size in (1, 3, 7, len(stream)):
        messages = Messages(untyped=1)
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


# --- Growth and profile -----------------------------------------------------------------------------------------------


def test_growth_compares_two_warehouses() -> None:
    few, many = (
        growth.Growth({"full refresh": seconds, "new day": 1.5}, {"full refresh": 270.0, "new day": 205.0}, locks)
        for seconds, locks in ((5.0, {"full refresh": 341}), (50.0, {"full refresh": 5688}))
    )
    table = growth.table((growth.History(1, 22), few), (growth.History(1, 400), many))
    assert table.splitlines()[2:] == [
        "| full refresh | 5.00 | 50.00 | 10.00 | 270 | 270 | 341 | 5,688 |",
        "| new day | 1.50 | 1.50 | 1.00 | 205 | 205 |  |  |",
    ]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ('copy "staging"."csv_snapshots_07" ("ENTRYDATE", "LEADNUMBER") from stdin', "copy staging.csv_snapshots_…"),
        ("-- Why.\ncreate table staging.x as\nwith y as (select 1) select 2", "create table staging.x"),
        (
            'drop table if exists "staging"."leads"; create table "staging"."leads" as select 1',
            "create table staging.leads",
        ),
        ("COMMIT", "COMMIT"),
    ],
)
def test_statements_of_all_days_have_one_name(statement: str, name: str) -> None:
    assert profile.shortened(statement) == name


def test_step_with_a_single_look_has_no_shares() -> None:
    watched = profile.Watched([profile.Look(0.3, 0.1, 0.0, 0.0, 0.0)], [(0.0, profile.START)], 0.4)
    assert watched.rows() == [[profile.START, "0.40", "?", "?", "?", "?"]]


def test_profile_shows_the_shares_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    looks = [profile.Look(at / 4, at / 8, at / 4, at / 8, 0.0) for at in range(1, 13)]
    watched = profile.Watched(looks, [(0.0, profile.START), (1.0, "2, S3 → bronze")], 3.0)
    assert watched.rows() == [
        [profile.START, "1.00", "25 %", "50 %", "25 %", "0 %"],
        ["2, S3 → bronze", "2.00", "25 %", "50 %", "25 %", "0 %"],
    ]
