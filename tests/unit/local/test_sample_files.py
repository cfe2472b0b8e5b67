"""The sample files have the layouts, the formats and the dirt of the real files (specification §3)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from sample_reader import lines, raw_leads

from etl.local import sample_files
from etl.local.sample_data import SampleData, write_sample
from etl.utils.extract import minimal_clean_csv
from etl.utils.transform import clean_csv

HASH = r"[0-9a-f]{40}"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

BEFORE_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"
FROM_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status"
FROM_11 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName"
FROM_13 = f"{FROM_11},location"
HEADERS = [BEFORE_9] * 8 + [FROM_9] * 2 + [FROM_11] * 2 + [FROM_13] * 10


def cleaned(sample: SampleData, number: int) -> pd.DataFrame:
    """Return the rows of a file as silver has them; none is rejected."""
    raw = pd.read_csv(sample.target / f"SFTP/data_{number}.csv", dtype=str, keep_default_na=False)
    clean = clean_csv(minimal_clean_csv(raw).assign(_extraction_date="2024-10-23", _partition_date="2024-10-01"))
    assert clean.rejected.empty
    return clean.rows


# --- Format -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 23))
def test_headers_and_separators_depend_on_the_file_number(sample: SampleData, number: int) -> None:
    header, first, *_, end = lines(sample, number)
    assert header == HEADERS[number - 1]
    separator = ",".join(["-----"] * len(header.split(",")))
    assert (first == separator) == (number >= 6)
    assert lines(sample, number).count(separator) == (number >= 6)
    assert end == ""


def test_files_have_no_quotes_and_unix_line_endings(sample: SampleData) -> None:
    for file in (sample.target / "SFTP").iterdir():
        content = file.read_bytes()
        assert b'"' not in content
        assert b"\r" not in content
        assert b"\n\n" not in content


def test_demo_is_true_or_false_in_files_11_to_20(raw_snapshots: pd.DataFrame) -> None:
    for number, words in raw_snapshots.groupby("day")["Demo"]:
        if number == 14:
            assert set(words) == {"FALSE", "TRUE"}
        else:
            assert set(words) == ({"False", "True"} if 11 <= number <= 20 else {"0", "1"})


def test_set_is_0_or_1_and_only_0_from_file_16(raw_snapshots: pd.DataFrame) -> None:
    for number, words in raw_snapshots.groupby("day")["Set"]:
        assert set(words) == ({"0", "1"} if number <= 15 else {"0"})


def test_dates_have_the_american_layout(raw_snapshots: pd.DataFrame) -> None:
    padded = raw_snapshots["ENTRYDATE"].str.fullmatch(r"\d\d/\d\d/\d{4}")
    assert padded[raw_snapshots["day"] != 14].all()
    assert pd.to_datetime(raw_snapshots["ENTRYDATE"], format="%m/%d/%Y").notna().all()


def test_appointments_have_two_blanks_before_a_one_digit_hour(raw_snapshots: pd.DataFrame) -> None:
    appointments = raw_snapshots.loc[raw_snapshots["day"] != 14, "Appt Date"]
    assert (appointments == "").mean() > 0.7
    given = appointments[appointments != ""]
    one_digit = given.str.fullmatch(r"\d\d/\d\d/\d{4}  [1-9]:\d\d[AP]M")
    two_digits = given.str.fullmatch(r"\d\d/\d\d/\d{4} 1[0-2]:\d\d[AP]M")
    assert (one_digit | two_digits).all()
    assert one_digit.any()
    assert two_digits.any()
    times = given.str.replace(r" +", " ", regex=True)
    assert pd.to_datetime(times, format="%m/%d/%Y %I:%M%p").notna().all()


def test_hashes_are_hexadecimal_and_lead_numbers_are_32_bit_integers(raw_snapshots: pd.DataFrame) -> None:
    for column in ("email_hash", "phone_hash"):
        assert raw_snapshots[column].str.fullmatch(HASH).all()
    numbers = raw_snapshots.loc[raw_snapshots["day"] != 4, "LEADNUMBER"]
    assert numbers.astype("int64").between(1, 2**31 - 1).all()


# --- Files that were saved by hand ------------------------------------------------------------------------------------


def test_file_4_has_numbers_as_floats(raw_snapshots: pd.DataFrame) -> None:
    saved = raw_snapshots[raw_snapshots["day"] == 4]
    assert saved["LEADNUMBER"].str.fullmatch(r"\d{6}\.0").all()
    assert saved["ZIP"].str.fullmatch(r"[1-9]\d{4}\.0|0\d{4}|0|").all()
    assert saved["ZIP"].str.endswith(".0").mean() > 0.99
    assert saved["ZIP"].str.fullmatch(r"0\d{4}").any()


def test_file_14_has_the_dates_of_a_spreadsheet(raw_snapshots: pd.DataFrame) -> None:
    saved = raw_snapshots[raw_snapshots["day"] == 14]
    assert saved["ENTRYDATE"].str.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}").all()
    given = saved.loc[saved["Appt Date"] != "", "Appt Date"]
    assert given.str.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4} ([89]|1\d):[03]0").all()
    assert given.str.endswith(" 13:00").any()
    assert given.str.endswith(" 9:00").any()


@pytest.mark.parametrize("number", [4, 14])
def test_files_saved_by_hand_are_cleaned_to_the_values_of_the_crm(
    sample: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sample_files, "SAVED_BY", {})
    exported = write_sample(tmp_path / "exported")
    assert lines(exported, number) != lines(sample, number)
    assert_frame_equal(cleaned(exported, number), cleaned(sample, number))


# --- The parquet ------------------------------------------------------------------------------------------------------


def test_parquet_has_three_text_columns(sample: SampleData) -> None:
    schema = pq.read_schema(sample.target / "parquet/leads.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("lead_UUID", "string"),
        ("phone_hash", "string"),
        ("email_hash", "string"),
    ]


def test_parquet_contains_rows_to_clean(sample: SampleData, leads: pd.DataFrame) -> None:
    raw = raw_leads(sample)
    hashes = raw[["phone_hash", "email_hash"]]
    assert raw["lead_UUID"].isna().sum() == 1
    assert 1 <= raw.duplicated().sum() < 10
    assert 1 <= hashes.apply(lambda column: column != column.str.strip()).any(axis=1).sum() < 10
    assert 1 <= hashes.apply(lambda column: column != column.str.lower()).any(axis=1).sum() < 10
    assert len(raw.dropna().drop_duplicates()) > len(leads)  # some rows are duplicates only after cleaning
    assert leads["lead_UUID"].str.fullmatch(UUID).all()
    assert leads["email_hash"].str.fullmatch(HASH).all()
    assert leads["phone_hash"].str.fullmatch(HASH).all()
