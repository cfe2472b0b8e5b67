"""Benchmark data: copies, days between the known ones, longer histories."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks import cases, growth
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
    assert "the project's sample is used instead" in capsys.readouterr().err
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
