"""The parts of the benchmarks that can be tested without measuring: data sets, cases, figures, tables, pins."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest

from benchmarks import bench, cases, growth, profile, report, rounds
from benchmarks.default_postgres import installed_programs
from benchmarks.measure import COPY_DATA, Messages
from benchmarks.real_days import DailyChange, Snapshot, average_change, interpolate, read_snapshot, vary
from benchmarks.real_shape import (
    BASE,
    CORRECTED,
    FEWER_LEADS,
    GROWN_LEADS,
    LEADS_KEY,
    NEW_DAY,
    CopyIds,
    Dataset,
    ensure_dataset,
)

PROJECT = Path(__file__).parents[2]

# --- Data sets --------------------------------------------------------------------------------------------------------

HEADER = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status".split(",")
NEW_HEADER = [
    *"ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status".split(","),
    "CityName",
    "location",
]


def a_snapshot(number: int, dispos: dict[str, str], header: list[str] = HEADER, **cells: str) -> Snapshot:
    """Return one row per lead number, with its disposition."""
    common = {"CITY": "Reno", "CityName": "Reno", "STATE": "NV", "Demo": "0", "Set": "0", "location": "Reno | NV"}
    rows = {}
    for lead, dispo in dispos.items():
        known = common | {"LEADNUMBER": lead, "Dispo": dispo, "email_hash": f"e{lead}"} | cells
        rows[lead] = {column: known.get(column, "") for column in header}
    return Snapshot(number, header, False, rows)


def test_interpolated_day_takes_each_row_from_one_of_two_known_days() -> None:
    earlier = a_snapshot(1, {str(lead): "before" for lead in range(100)})
    later = a_snapshot(5, {str(lead): "after" for lead in range(50, 150)})
    days = [earlier, *(interpolate(earlier, later, number) for number in (2, 3, 4)), later]
    for before, day in pairwise(days):
        appeared, disappeared = day.rows.keys() - before.rows.keys(), before.rows.keys() - day.rows.keys()
        assert 0 < len(appeared) < 50
        assert 0 < len(disappeared) < 50
    for lead in map(str, range(150)):
        dispos = [day.rows[lead]["Dispo"] if lead in day.rows else "" for day in days]
        changes = sum(one != other for one, other in pairwise(dispos))
        assert changes == 1, "a row switches once and does not switch back"


def test_interpolated_day_has_the_format_of_the_earlier_file() -> None:
    earlier, later = (
        a_snapshot(13, {"1": "x"}, Demo="False"),
        a_snapshot(22, {"2": "y"}, NEW_HEADER, Demo="1", STATE=""),
    )
    days = [interpolate(earlier, later, number) for number in range(14, 22)]
    (row,) = {tuple(day.rows["2"].items()) for day in days if "2" in day.rows and day.number < 21}
    assert [column for column, _ in row] == HEADER
    assert dict(row)["Demo"] == "True"
    assert dict(row)["STATE"] == "NV", "taken from location, which files before 13 do not have"
    assert days[-1].rows["2"]["STATE"] == "", "files 21 and 22 have no state"


def test_set_follows_the_appointment_until_the_export_breaks() -> None:
    earlier = a_snapshot(13, {"1": "x"}, **{"Appt Date": "01/02/2023  5:30PM", "Set": "1"})
    later = a_snapshot(20, {"1": "y"}, **{"Appt Date": "01/02/2023  5:30PM", "Set": "0"})
    flags = [interpolate(earlier, later, number).rows["1"]["Set"] for number in range(14, 20)]
    assert flags == ["1", "1", "0", "0", "0", "0"]


def test_varied_day_has_the_requested_new_missing_and_changed_rows() -> None:
    snapshot = a_snapshot(22, {str(lead): f"dispo {lead % 5}" for lead in range(1, 101)})
    day = vary(snapshot, DailyChange(new=3, gone=4, changed=5), number=23, first_new_lead=101)
    assert day.rows.keys() - snapshot.rows.keys() == {"101", "102", "103"}
    assert len(snapshot.rows.keys() - day.rows.keys()) == 4
    kept = snapshot.rows.keys() & day.rows.keys()
    assert sum(day.rows[lead] != snapshot.rows[lead] for lead in kept) == 5
    assert len({row["email_hash"] for row in day.rows.values()}) == len(day.rows)


def test_copies_have_their_own_hashes_and_keep_everything_else() -> None:
    hash_, uuid = "a" * 40, "0a1b2c3d-0000-4000-8000-000000000000"
    first, second, third = map(CopyIds, range(3))
    assert [first[hash_], first[uuid], first[" x "], first[None]] == [hash_, uuid, " x ", None]
    assert len({first[hash_], second[hash_], third[hash_]}) == 3
    assert re.fullmatch("[0-9a-f]{40}", str(second[hash_]))
    assert second[hash_] == second[f" {hash_.upper()} "], "matching trims hashes and ignores case"
    assert [len(part) for part in str(second[uuid]).split("-")] == [8, 4, 4, 4, 12]
    assert [second["nan"], second[""], second[None]] == ["nan", "", None]


@pytest.fixture(scope="module")
def dataset(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return ensure_dataset(tmp_path_factory.mktemp("data") / "data-2", 2, real_data)


def contents(dataset: Dataset) -> dict[str, bytes]:
    files = sorted(path for path in dataset.folder.rglob("*") if path.is_file())
    return {path.relative_to(dataset.folder).as_posix(): path.read_bytes() for path in files}


def test_data_set_is_deterministic_and_kept(dataset: Dataset, real_data: Path, tmp_path: Path) -> None:
    again = ensure_dataset(tmp_path / "data-2", 2, real_data)
    assert contents(again) == contents(dataset)
    marker = tmp_path / "data-2" / "dataset.json"
    written = marker.stat().st_mtime_ns
    assert ensure_dataset(tmp_path / "data-2", 2, real_data) == again
    assert marker.stat().st_mtime_ns == written


def test_known_days_of_the_first_copy_are_the_real_files(real_data: Path, tmp_path: Path) -> None:
    single = ensure_dataset(tmp_path / "data-1", 1, real_data)
    real_files = list(real_data.glob("SFTP/*.csv"))
    assert len(real_files) == 8
    for real in real_files:
        assert single.file(BASE, f"SFTP/{real.name}").read_bytes() == real.read_bytes()


def test_row_counts_are_those_of_the_real_files(dataset: Dataset) -> None:
    rows = [dataset.records[f"{BASE}/SFTP/data_{number}.csv"] for number in range(1, 23)]
    assert all(7_200 < count < 7_700 for count in rows)
    assert sum(rows) == pytest.approx(2 * 82_304, rel=0.01)
    for name, records in dataset.records.items():
        if name.endswith(".csv"):
            with (dataset.folder / name).open(newline="") as file:
                assert sum(1 for _ in csv.reader(file)) - 1 == records


def rows_of(dataset: Dataset, part: str, number: int) -> dict[str, dict[str, str]]:
    return dict(read_snapshot(dataset.file(part, f"SFTP/data_{number}.csv")).rows)


def test_days_have_unique_lead_numbers_and_interpolated_days_differ_from_known_ones(dataset: Dataset) -> None:
    days = {number: rows_of(dataset, BASE, number) for number in range(1, 23)}  # raises if a lead number is repeated
    for earlier, day, later in ((2, 4, 6), (6, 7, 9), (13, 17, 20), (20, 21, 22)):
        for known in (earlier, later):
            differing = days[day].keys() ^ days[known].keys()
            assert 0 < len(differing) < 0.2 * len(days[day])
        assert days[day].keys() <= days[earlier].keys() | days[later].keys()


def test_copies_share_neither_lead_numbers_nor_hashes(dataset: Dataset) -> None:
    for number in (1, 17, 22):
        first: set[str] = set()
        second: set[str] = set()
        for lead, row in rows_of(dataset, BASE, number).items():
            (first if int(lead) < 1_000_000 else second).update((lead, row["email_hash"], row["phone_hash"]))
        assert len(first) == len(second)
        assert first.isdisjoint(second)
    leads = pq.read_table(dataset.file(BASE, LEADS_KEY))
    assert len(leads) == dataset.records[f"{BASE}/{LEADS_KEY}"] == 2 * 4_364
    assert len(set(leads["lead_UUID"].to_pylist())) == len(leads)
    assert len(set(leads["email_hash"].to_pylist())) == len(leads)


def test_new_day_changes_as_much_as_an_average_day(dataset: Dataset) -> None:
    before, after = rows_of(dataset, BASE, 22), rows_of(dataset, NEW_DAY, 23)
    kept = before.keys() & after.keys()
    assert 0.005 < len(after.keys() - before.keys()) / len(before) < 0.02
    assert 0.005 < len(before.keys() - after.keys()) / len(before) < 0.02
    assert 0.002 < sum(before[lead] != after[lead] for lead in kept) / len(before) < 0.02


def test_grown_leads_file_has_the_leads_of_the_new_rows(dataset: Dataset) -> None:
    base, grown, fewer = (
        set(pq.read_table(dataset.file(part, LEADS_KEY))["email_hash"].to_pylist())
        for part in (BASE, GROWN_LEADS, FEWER_LEADS)
    )
    assert base < grown
    assert fewer < base
    assert len(grown) - len(base) == len(base) - len(fewer) == pytest.approx(len(base) * 0.01, abs=2)
    older = {row["email_hash"] for number in range(1, 23) for row in rows_of(dataset, BASE, number).values()}
    new = {row["email_hash"] for row in rows_of(dataset, NEW_DAY, 23).values()} - older
    assert new < grown - base, "some new leads are not in the CRM yet"
    assert older.isdisjoint(grown - base), "no row of an older day starts to match"
    assert base - fewer <= older


def test_corrected_day_differs_in_few_rows(dataset: Dataset) -> None:
    before, after = rows_of(dataset, BASE, 11), rows_of(dataset, CORRECTED, 11)
    assert after.keys() < before.keys()
    assert 0 < sum(before[lead] != after[lead] for lead in after) < 0.02 * len(before)


def test_sample_replaces_missing_real_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = ensure_dataset(tmp_path / "data-1", 1, tmp_path / "nothing here")
    assert "the project's own sample takes their place" in capsys.readouterr().err
    assert dataset.source == "the sample"
    assert dataset.days == cases.DAYS
    assert dataset.file(BASE, "SFTP/data_9.csv").read_bytes() == (tmp_path / "sample-1/SFTP/data_9.csv").read_bytes()


def test_file_saved_by_hand_has_no_changed_rows() -> None:
    exported = a_snapshot(1, {"1": "x"}, **{"Appt Date": "10/05/2024  1:00PM"})
    saved, moved = (a_snapshot(2, {"1": "x"}, **{"Appt Date": f"10/5/2024 {time}"}) for time in ("13:00", "1:00"))
    assert [average_change([exported, other]).changed for other in (saved, moved)] == [0, 1]


def test_longer_history_has_files_of_one_size_and_a_lead_for_each_new_row(real_data: Path, tmp_path: Path) -> None:
    history = growth.History(copies=1, days=13)
    files = history.files(tmp_path, real_data)
    days = [read_snapshot(files / part / f"SFTP/data_{number}.csv").rows for part, number in growth_files(history)]
    assert [len(days[9]), len(days[-2])] == [len(days[12])] * 2
    new = days[12].keys() - days[9].keys()
    assert new
    leads = pq.read_table(files / BASE / LEADS_KEY)["email_hash"].to_pylist()
    assert {days[12][lead]["email_hash"] for lead in new} <= set(leads)
    assert days[-1].keys() < days[5].keys(), "the corrected day lacks some rows"


def growth_files(history: growth.History) -> list[tuple[str, int]]:
    """Return part and number of all files: those of the history, the new day, the corrected day."""
    base = [(BASE, number) for number in range(1, history.days + 1)]
    return [*base, (NEW_DAY, history.days + 1), (CORRECTED, history.corrected_day)]


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
    with pytest.raises(ValueError, match="must have the markers"):
        report.replace_head("# no markers", "", "")


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


def test_profile_shows_the_shares_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    looks = [profile.Look(at / 4, at / 8, at / 4, at / 8, 0.0) for at in range(1, 13)]
    watched = profile.Watched(looks, [(0.0, profile.START), (1.0, "2, S3 → bronze")], 3.0)
    assert watched.rows() == [
        [profile.START, "1.00", "25 %", "50 %", "25 %", "0 %"],
        ["2, S3 → bronze", "2.00", "25 %", "50 %", "25 %", "0 %"],
    ]
