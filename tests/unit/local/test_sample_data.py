"""The sample data: as odd as specification §3 says, the same bytes every time, and never half there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from etl.local import sample_data
from etl.local.sample_data import SampleData, ensure_sample, main, write_sample
from etl.utils.errors import PipelineError

DIGEST_OF_SCALE_1 = "83dca62a9342dfd544f36f926294277cac4a1ebeba13aafbd6a0d3262db98f5b"

HASH = r"[0-9a-f]{40}"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
NO_VALUE_HASH = hashlib.sha1(b"").hexdigest()

BEFORE_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"
FROM_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status"
FROM_11 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName"
FROM_13 = f"{FROM_11},location"
HEADERS = [BEFORE_9] * 8 + [FROM_9] * 2 + [FROM_11] * 2 + [FROM_13] * 10


def lines(sample: SampleData, number: int) -> list[str]:
    return (sample.target / f"SFTP/data_{number}.csv").read_text(encoding="utf-8").split("\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def raw_leads(sample: SampleData) -> pd.DataFrame:
    return pd.read_parquet(sample.target / "parquet/leads.parquet")


def cleaned_leads(sample: SampleData) -> pd.DataFrame:
    leads = raw_leads(sample).dropna()
    for column in ("phone_hash", "email_hash"):
        leads[column] = leads[column].str.strip().str.lower()
    return leads.drop_duplicates(ignore_index=True)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleData:
    return write_sample(tmp_path_factory.mktemp("samples") / "scale_1")


@pytest.fixture(scope="module")
def snapshots(sample: SampleData) -> pd.DataFrame:
    """All rows of all files but the separators, every cell as the text it is in the file."""
    days = []
    for number in range(1, 23):
        day = pd.read_csv(sample.target / f"SFTP/data_{number}.csv", dtype=str, keep_default_na=False)
        day = day[day["LEADNUMBER"] != "-----"].rename(columns={"CityName": "CITY"})
        days.append(day.assign(day=number))
    return pd.concat(days, ignore_index=True)


@pytest.fixture(scope="module")
def leads(sample: SampleData) -> pd.DataFrame:
    return cleaned_leads(sample)


@pytest.fixture(scope="module")
def matches(snapshots: pd.DataFrame, leads: pd.DataFrame) -> pd.DataFrame:
    """One row for each snapshot row and backend lead that share a hash; a snapshot row without lead is there once."""
    rows = snapshots[["day", "email_hash", "phone_hash"]].rename_axis("row").reset_index()
    pairs = [rows.merge(leads[["lead_UUID", column]], on=column)[["row", "lead_UUID"]] for column in leads.columns[1:]]
    found = rows.merge(pd.concat(pairs).drop_duplicates(), on="row", how="left")
    found = found.merge(leads, on="lead_UUID", how="left", suffixes=("", "_of_lead"), validate="many_to_one")
    email, phone = (found[column] == found[f"{column}_of_lead"] for column in ("email_hash", "phone_hash"))
    return found.assign(email=email, phone=phone)


# --- how much ---------------------------------------------------------------------------------------------------------


def test_scale_1_has_the_size_of_the_real_data(
    sample: SampleData, snapshots: pd.DataFrame, leads: pd.DataFrame
) -> None:
    names = {file.name for file in (sample.target / "SFTP").iterdir()}
    assert names == {f"data_{number}.csv" for number in range(1, 23)}
    assert sample.files == 22
    assert 81_500 < sample.rows < 83_000
    assert len(snapshots) == sample.rows - 17
    assert snapshots["LEADNUMBER"].nunique() == sample.lead_numbers == 4434
    assert len(leads) == sample.leads == 4364
    assert leads.nunique().tolist() == [4364, 4364, 4364]


def test_each_day_has_about_as_many_rows_as_the_day_before(snapshots: pd.DataFrame) -> None:
    rows = snapshots.groupby("day").size()
    assert rows.between(3640, 3830).all()
    assert rows.nunique() > 15


def test_a_lead_number_stands_in_a_file_once(snapshots: pd.DataFrame) -> None:
    assert not snapshots.duplicated(["day", "LEADNUMBER"]).any()


def test_scale_2_has_twice_the_leads_and_rows(sample: SampleData, tmp_path: Path) -> None:
    double = write_sample(tmp_path / "sample", scale=2)
    assert (double.leads, double.lead_numbers) == (2 * sample.leads, 2 * sample.lead_numbers)
    assert len(cleaned_leads(double)) == double.leads
    assert double.rows == pytest.approx(2 * sample.rows, rel=0.002)


def test_a_longer_sample_begins_with_the_files_of_a_shorter_one(tmp_path: Path) -> None:
    short = write_sample(tmp_path / "short", scale=0.05, days=22)
    long = write_sample(tmp_path / "long", scale=0.05, days=60)
    for number in range(1, 23):
        assert lines(long, number) == lines(short, number)
    assert lines(long, 60)[0] == FROM_13
    assert len(lines(long, 60)) > 0.9 * len(lines(short, 22))
    assert set(cleaned_leads(short)["lead_UUID"]) < set(cleaned_leads(long)["lead_UUID"])


def test_a_shorter_sample_has_fewer_files_but_all_leads(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "sample", scale=0.5, days=2)
    assert [file.name for file in sorted((sample.target / "SFTP").iterdir())] == ["data_1.csv", "data_2.csv"]
    assert sample.leads == len(cleaned_leads(sample)) == 2182


# --- how it is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 23))
def test_headers_and_separators_are_those_of_the_file_number(sample: SampleData, number: int) -> None:
    header, first, *_, end = lines(sample, number)
    assert header == HEADERS[number - 1]
    separator = ",".join(["-----"] * len(header.split(",")))
    assert (first == separator) == (number >= 6)
    assert lines(sample, number).count(separator) == (number >= 6)
    assert end == ""


def test_files_need_no_quotes_and_end_their_lines_the_unix_way(sample: SampleData) -> None:
    for file in (sample.target / "SFTP").iterdir():
        content = file.read_bytes()
        assert b'"' not in content
        assert b"\r" not in content
        assert b"\n\n" not in content


def test_demo_is_spelled_out_in_files_11_to_20(snapshots: pd.DataFrame) -> None:
    for number, words in snapshots.groupby("day")["Demo"]:
        assert set(words) == ({"False", "True"} if 11 <= number <= 20 else {"0", "1"})
    assert set(snapshots["Set"]) == {"0", "1"}


def test_dates_are_written_the_american_way(snapshots: pd.DataFrame) -> None:
    assert snapshots["ENTRYDATE"].str.fullmatch(r"\d\d/\d\d/\d{4}").all()
    assert pd.to_datetime(snapshots["ENTRYDATE"], format="%m/%d/%Y").notna().all()


def test_appointments_have_two_blanks_before_a_one_digit_hour(snapshots: pd.DataFrame) -> None:
    appointments = snapshots["Appt Date"]
    assert (appointments == "").mean() > 0.7
    given = appointments[appointments != ""]
    one_digit = given.str.fullmatch(r"\d\d/\d\d/\d{4}  [1-9]:\d\d[AP]M")
    two_digits = given.str.fullmatch(r"\d\d/\d\d/\d{4} 1[0-2]:\d\d[AP]M")
    assert (one_digit | two_digits).all()
    assert one_digit.any()
    assert two_digits.any()
    times = given.str.replace(r" +", " ", regex=True)
    assert pd.to_datetime(times, format="%m/%d/%Y %I:%M%p").notna().all()


def test_hashes_are_hexadecimal_and_lead_numbers_are_32_bit_integers(snapshots: pd.DataFrame) -> None:
    for column in ("email_hash", "phone_hash"):
        assert snapshots[column].str.fullmatch(HASH).all()
    assert snapshots["LEADNUMBER"].astype("int64").between(1, 2**31 - 1).all()


# --- where the leads live ---------------------------------------------------------------------------------------------


def test_states_are_mostly_western_and_some_are_missing(snapshots: pd.DataFrame) -> None:
    given = snapshots[snapshots["day"] <= 20]
    counts = given["STATE"].value_counts()
    assert list(counts.index[:4]) == ["WA", "AZ", "NV", "OR"]
    assert set(counts.index) == {"WA", "AZ", "NV", "OR", "ID", "IL", "CT", "MA", "  ", "nu"}
    for oddity in ("  ", "nu"):
        assert set(given.loc[given["STATE"] == oddity, "day"]) == set(range(1, 21))


def test_from_file_21_on_only_the_location_tells_the_state(snapshots: pd.DataFrame) -> None:
    late = snapshots[snapshots["day"] >= 21]
    assert set(late["STATE"]) == {""}
    assert late["location"].str.fullmatch(r".* \| [A-Z]{2}").mean() > 0.99
    assert {" |   ", " | nu"} <= set(late["location"])


def test_locations_are_city_and_state(snapshots: pd.DataFrame) -> None:
    located = snapshots[snapshots["day"].between(13, 20)]
    assert (located["location"] == located["CITY"] + " | " + located["STATE"]).all()
    for oddity in (" |   ", " | nu"):
        assert set(located.loc[located["location"] == oddity, "day"]) == set(range(13, 21))
    assert snapshots.loc[snapshots["day"] < 13, "location"].isna().all()


def test_cities_are_padded_or_blank_in_some_rows(snapshots: pd.DataFrame) -> None:
    cities = snapshots["CITY"]
    padded = cities != cities.str.rstrip()
    assert 0.04 < padded.mean() < 0.1
    assert (cities.str.len() == 28).mean() == pytest.approx(0.06, abs=0.02)
    assert (cities != cities.str.lstrip()).any()
    assert set(snapshots.loc[cities == "", "day"]) == set(range(1, 23))
    assert (cities == " " * 28).any()
    assert cities.str.len().max() <= 100


def test_zips_are_five_digits_or_empty_or_zero(snapshots: pd.DataFrame) -> None:
    zips = snapshots["ZIP"]
    assert zips.str.fullmatch(r"\d{5}|0|").all()
    for oddity in ("", "0"):
        assert set(snapshots.loc[zips == oddity, "day"]) == set(range(1, 23))


def test_zips_with_a_leading_zero_are_in_new_england(snapshots: pd.DataFrame) -> None:
    given = snapshots[snapshots["day"] <= 20]
    leading_zero = given["ZIP"].str.fullmatch(r"0\d{4}")
    assert set(given.loc[leading_zero, "STATE"]) == {"CT", "MA"}
    assert leading_zero.sum() == given["STATE"].isin(["CT", "MA"]).sum()


# --- what becomes of the leads ----------------------------------------------------------------------------------------


def test_dispositions_are_many_and_short(snapshots: pd.DataFrame) -> None:
    assert {"Sale", "Data", "CXL-BT"} <= set(snapshots["Dispo"])
    assert 38 <= snapshots["Dispo"].nunique() <= 42
    assert snapshots["Dispo"].str.len().between(1, 50).all()
    assert snapshots["Dispo"].str.contains("\\", regex=False).any()


def test_only_sales_have_a_job_status(snapshots: pd.DataFrame) -> None:
    has_status = snapshots["Job Status"] != ""
    assert (has_status == (snapshots["Dispo"] == "Sale")).all()
    assert snapshots.loc[has_status, "Job Status"].nunique() == 13


def test_demos_mostly_have_an_appointment_set(snapshots: pd.DataFrame) -> None:
    demo, is_set = snapshots["Demo"].isin(["1", "True"]), snapshots["Set"] == "1"
    assert 0.95 < (demo & is_set).sum() / demo.sum() < 1
    assert 0.04 < (is_set & ~demo).mean() < 0.07


def test_a_few_leads_a_day_reach_high_quality(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    high = snapshots.index[(snapshots["Set"] == "1") & snapshots["Demo"].isin(["1", "True"])]
    first_day = matches[matches["row"].isin(high)].groupby("lead_UUID")["day"].min()
    per_day = first_day.value_counts().reindex(range(1, 23), fill_value=0)
    assert 500 < per_day[1] < 570
    assert per_day[2:].between(1, 20).all()


def test_leads_arrive_vanish_and_return(snapshots: pd.DataFrame) -> None:
    days = snapshots.groupby("LEADNUMBER")["day"].agg(["min", "max", "nunique"])
    assert set(days["min"]) == set(range(1, 23))
    assert set(days["max"]) == set(range(1, 23))
    assert (days["nunique"] == 22).mean() > 0.6
    assert (days["nunique"] < days["max"] - days["min"] + 1).any()


def test_statuses_progress_from_day_to_day(snapshots: pd.DataFrame) -> None:
    ordered = snapshots.assign(Demo=snapshots["Demo"].replace({"True": "1", "False": "0"}))
    ordered = ordered.sort_values(["LEADNUMBER", "day"])
    before = ordered.groupby("LEADNUMBER")[["Set", "Demo", "Appt Date", "Dispo", "Job Status"]].shift()
    became_set = (before["Set"] == "0") & (ordered["Set"] == "1")
    cancelled = (before["Appt Date"].fillna("") != "") & (ordered["Appt Date"] == "")
    known_before = before["Dispo"].notna()
    both_dates = (before["Appt Date"].fillna("") != "") & (ordered["Appt Date"] != "")
    assert became_set.sum() > 20
    assert ((before["Demo"] == "0") & (ordered["Demo"] == "1")).sum() > 20
    assert not ((before["Demo"] == "1") & (ordered["Demo"] == "0")).any()
    assert (ordered.loc[became_set, "Appt Date"] != "").all()
    assert (both_dates & (before["Appt Date"] != ordered["Appt Date"])).any()
    assert cancelled.any()
    assert ((before["Set"] == "1") & (ordered["Dispo"] == "CXL-BT") & (before["Dispo"] != "CXL-BT")).any()
    assert (known_before & (before["Dispo"] != ordered["Dispo"])).sum() > 200
    assert (known_before & (before["Job Status"] != ordered["Job Status"])).sum() > 40


# --- how they match ---------------------------------------------------------------------------------------------------


def test_every_match_scenario_occurs_every_day(matches: pd.DataFrame) -> None:
    scenarios = {
        "both": matches["email"] & matches["phone"],
        "email_only": matches["email"] & ~matches["phone"],
        "phone_only": ~matches["email"] & matches["phone"],
        "none": matches["lead_UUID"].isna(),
    }
    for scenario in scenarios.values():
        assert set(matches.loc[scenario, "day"]) == set(range(1, 23))
    shares = {name: scenario.mean() for name, scenario in scenarios.items()}
    assert shares["both"] > 0.98
    assert 0.006 < shares["email_only"] < 0.012
    assert 0.0005 < shares["phone_only"] < 0.003
    assert 0.0005 < shares["none"] < 0.003


def test_a_few_rows_a_day_belong_to_two_leads(matches: pd.DataFrame) -> None:
    leads_per_row = matches.groupby("row")["lead_UUID"].nunique()
    assert leads_per_row.max() == 2
    two = matches[matches["row"].isin(leads_per_row.index[leads_per_row == 2])].drop_duplicates("row")
    assert two.groupby("day").size().reindex(range(1, 23), fill_value=0).between(2, 10).all()


def test_the_hash_of_no_value_stands_in_both_columns_of_unrelated_rows(
    snapshots: pd.DataFrame, leads: pd.DataFrame
) -> None:
    for column, least in (("email_hash", 5), ("phone_hash", 2)):
        rows = snapshots[snapshots[column] == NO_VALUE_HASH]
        other = "phone_hash" if column == "email_hash" else "email_hash"
        assert (rows.groupby("day")[other].nunique().reindex(range(1, 23), fill_value=0) >= least).all()
        assert (leads[column] == NO_VALUE_HASH).sum() == 1


def test_a_few_backend_leads_never_appear(matches: pd.DataFrame, leads: pd.DataFrame) -> None:
    assert 1 <= (~leads["lead_UUID"].isin(matches["lead_UUID"])).sum() <= 20


def test_some_leads_have_several_lead_numbers(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    both = matches[matches["email"] & matches["phone"]]
    assert (snapshots.loc[both["row"], "LEADNUMBER"].groupby(both["lead_UUID"].to_numpy()).nunique() > 1).any()


# --- the parquet ------------------------------------------------------------------------------------------------------


def test_the_parquet_has_three_text_columns(sample: SampleData) -> None:
    schema = pq.read_schema(sample.target / "parquet/leads.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("lead_UUID", "string"),
        ("phone_hash", "string"),
        ("email_hash", "string"),
    ]


def test_cleaning_the_parquet_has_something_to_do(sample: SampleData, leads: pd.DataFrame) -> None:
    raw = raw_leads(sample)
    hashes = raw[["phone_hash", "email_hash"]]
    assert raw["lead_UUID"].isna().sum() == 1
    assert 1 <= raw.duplicated().sum() < 10
    assert 1 <= hashes.apply(lambda column: column != column.str.strip()).any(axis=1).sum() < 10
    assert 1 <= hashes.apply(lambda column: column != column.str.lower()).any(axis=1).sum() < 10
    assert len(raw.dropna().drop_duplicates()) > len(leads)  # some duplicates show only once they are clean
    assert leads["lead_UUID"].str.fullmatch(UUID).all()
    assert leads["email_hash"].str.fullmatch(HASH).all()
    assert leads["phone_hash"].str.fullmatch(HASH).all()


# --- the same every time ----------------------------------------------------------------------------------------------


def test_the_same_parameters_yield_the_same_bytes(sample: SampleData, tmp_path: Path) -> None:
    again = write_sample(tmp_path / "again")
    assert contents(again.target) == contents(sample.target)


def test_another_seed_yields_other_data_of_the_same_size(sample: SampleData, tmp_path: Path) -> None:
    other = write_sample(tmp_path / "other", days=1, seed=7)
    assert lines(other, 1) != lines(sample, 1)
    assert len(lines(other, 1)) == len(lines(sample, 1))
    assert other.leads == sample.leads


def test_a_change_of_the_bytes_counts_the_generator_version_up(sample: SampleData) -> None:
    digest = hashlib.sha256()
    for number in range(1, 23):
        digest.update("\n".join(lines(sample, number)).encode())
    digest.update(raw_leads(sample).to_csv(index=False).encode())
    assert digest.hexdigest() == DIGEST_OF_SCALE_1, "count GENERATOR_VERSION up, then put the new digest here"


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> SampleData:
    return ensure_sample(tmp_path / "sample", scale=0.02, days=3)


def inodes(sample: SampleData) -> set[int]:
    return {file.stat().st_ino for file in sample.target.rglob("*")}


def test_a_complete_sample_is_not_written_again(small: SampleData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "write_sample", pytest.fail)
    assert ensure_sample(small.target, scale=0.02, days=3) == small


@pytest.mark.parametrize("changed", [{"scale": 0.03}, {"days": 4}, {"seed": 1}])
def test_other_parameters_replace_the_sample(small: SampleData, changed: dict[str, int]) -> None:
    before = contents(small.target)
    replaced = ensure_sample(small.target, **{"scale": 0.02, "days": 3, **changed})
    assert contents(small.target) != before
    assert replaced.files == changed.get("days", 3)


def test_another_generator_version_replaces_the_sample(small: SampleData, monkeypatch: pytest.MonkeyPatch) -> None:
    before = inodes(small)
    monkeypatch.setattr(sample_data, "GENERATOR_VERSION", -1)
    ensure_sample(small.target, scale=0.02, days=3)
    assert inodes(small).isdisjoint(before)


@pytest.mark.parametrize("name", ["SFTP/data_2.csv", "parquet/leads.parquet"])
def test_a_missing_or_cut_file_is_restored(small: SampleData, name: str) -> None:
    before = contents(small.target)
    (small.target / name).unlink()
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    (small.target / name).write_bytes(before[name][:-1])
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    assert contents(small.target) == before


def test_an_interrupted_run_leaves_the_old_sample_and_nothing_else(
    small: SampleData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(small.target.parent)
    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_sample(small.target, scale=0.02, days=4)
    assert contents(small.target.parent) == before
    assert [entry.name for entry in small.target.parent.iterdir()] == ["sample"]


def test_other_peoples_files_are_never_deleted(small: SampleData, tmp_path: Path) -> None:
    added = small.target / "SFTP/data_4.csv"
    added.write_text("precious")
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    with pytest.raises(PipelineError, match=re.escape("SFTP/data_4.csv")):
        write_sample(small.target, scale=0.02, days=4)
    assert added.read_text() == "precious"

    (tmp_path / "real/SFTP").mkdir(parents=True)
    (tmp_path / "real/SFTP/data_1.csv").write_text("precious")
    with pytest.raises(PipelineError, match="holds something else than sample data"):
        write_sample(tmp_path / "real", scale=0.02)


def test_an_empty_folder_is_a_fine_target(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    assert write_sample(target, scale=0.02, days=1).files == 1


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"scale": float("nan")}, {"days": 0}, {"seed": -1}])
def test_impossible_parameters_are_named(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is"):
        write_sample(tmp_path / "sample", **wrong)
    assert not (tmp_path / "sample").exists()


def test_the_command_line_prints_one_summary_line(tmp_path: Path) -> None:
    target = tmp_path / "sample"
    arguments = ["--target", str(target), "--scale", "0.02", "--days", "2", "--seed", "3"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert re.fullmatch(rf"{re.escape(str(target))}: 2 CSV files with [\d,]+ rows .*\n", result.output)
    assert ensure_sample(target, scale=0.02, days=2, seed=3).files == 2


def test_the_command_line_explains_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    result = CliRunner().invoke(main, ["--target", str(tmp_path)])
    assert result.exit_code == 1
    assert "notes.txt" in result.output
    assert "Traceback" not in result.output
