"""The cleaning rules of specification §5 and of docs/decisions/0003, one example at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from etl.utils import transform
from etl.utils.cell_rules import USPS_STATES
from etl.utils.columns import CONTENT_COLUMNS, MAX_LENGTH, ROW_HASH_VERSION, SILVER_NAMES
from etl.utils.frames import TEXT
from etl.utils.transform import NA_VALUES, clean_csv, clean_parquet, row_hash

Cases = dict[str | None, str | None]
"""A value as it is written → what is meant by it."""

SILVER_TYPES = Path(__file__).parents[3] / "sql_scripts/silver/apply_silver_types.sql"

BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
BLANKS += "\u2028\u2029\u202f\u205f\u3000"
"""Every character that Unicode or Python calls white space."""

ORDINARY = {
    "ENTRYDATE": "02/05/2023",
    "LEADNUMBER": "289764",
    "email_hash": "3b7c33e8",
    "phone_hash": "6e534544",
    "CITY": "Bremerton",
    "STATE": "WA",
    "ZIP": "98311",
    "APPT_DATE": "12/13/2022  1:00PM",
    "Set": "1",
    "Demo": "0",
    "Dispo": "Data",
    "JOB_STATUS": "Open",
    "location": "Bremerton | WA",
    "_extraction_date": "2024-11-01",
    "_partition_date": "2024-10-06",
}
HASHED_COLUMNS = (
    *("lead_number", "email_hash", "phone_hash", "city", "state", "zip", "appt_date", "appt_time", "set", "demo"),
    *("dispo", "job_status", "location"),
)
HASH_OF_ORDINARY = -3_742_562_056_342_586_272
HASH_OF_NULLS = -2_658_414_188_429_102_942
TEXT_COLUMNS = {
    "email_hash": "email_hash",
    "phone_hash": "phone_hash",
    "CITY": "city",
    "Dispo": "dispo",
    "JOB_STATUS": "job_status",
    "location": "location",
}


def bronze(*rows: dict[str, str | None]) -> pd.DataFrame:
    """Rows of bronze.csv_snapshots; a row names the cells that matter, the others are ordinary."""
    return pd.DataFrame([ORDINARY | row for row in rows], columns=list(ORDINARY), dtype=TEXT)


def values(column: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else value for value in column]


def cleaned(silver_column: str, **cells: str | None) -> str | None:
    """What stands in a silver column of the one row that comes of these cells."""
    clean = clean_csv(bronze(cells))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (1, 0, 0)
    return values(clean.rows[silver_column])[0]


def each_cleaned(column: str, silver_column: str, written: Iterable[str | None], **cells: str | None) -> Cases:
    """What comes of each of these values of a bronze column, none of which is a fault."""
    written = list(written)
    clean = clean_csv(bronze(*({**cells, column: value} for value in written)))
    assert clean.rejected["reason"].empty
    assert clean.separators == 0
    return dict(zip(written, values(clean.rows[silver_column]), strict=True))


def reason_for_rejecting(**cells: str | None) -> str:
    clean = clean_csv(bronze(cells))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (0, 1, 0)
    return clean.rejected["reason"][0]


def reasons_for_rejecting_each(column: str, written: Iterable[str]) -> Cases:
    """Why each of these values of a bronze column is a fault."""
    raw = bronze(*({column: value} for value in written)).assign(_source_row=list(written))
    rejected = clean_csv(raw).rejected
    return dict(zip(rejected["_source_row"], rejected["reason"], strict=True))


# --- the frame --------------------------------------------------------------------------------------------------------


def test_an_ordinary_row_gets_silver_names_and_iso_texts() -> None:
    expected = pd.DataFrame(
        {
            "entry_date": ["2023-02-05"],
            "lead_number": ["289764"],
            "email_hash": ["3b7c33e8"],
            "phone_hash": ["6e534544"],
            "city": ["Bremerton"],
            "state": ["WA"],
            "zip": ["98311"],
            "appt_date": ["2022-12-13"],
            "appt_time": ["13:00:00"],
            "set": ["1"],
            "demo": ["0"],
            "dispo": ["Data"],
            "job_status": ["Open"],
            "location": ["Bremerton | WA"],
            "_extraction_date": ["2024-11-01"],
            "_partition_date": ["2024-10-06"],
        },
        dtype=TEXT,
    )
    assert_frame_equal(clean_csv(bronze({})).rows[expected.columns], expected)


def test_row_hash_algorithm_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes in a warehouse outlive a release: another algorithm needs another ROW_HASH_VERSION."""
    monkeypatch.setattr(transform, "CONTENT_COLUMNS", HASHED_COLUMNS)
    assert ROW_HASH_VERSION == 1
    assert clean_csv(bronze({}, dict.fromkeys(ORDINARY))).rows["_row_hash"].tolist() == [
        HASH_OF_ORDINARY,
        HASH_OF_NULLS,
    ]


@pytest.mark.parametrize("column", CONTENT_COLUMNS)
def test_row_hash_tells_null_from_any_text_in_each_column(column: str) -> None:
    rows = clean_csv(bronze({})).rows
    values = [pd.NA, "", "None", "<NA>", "nan", "0"]
    frames = [rows.assign(**{column: pd.Series([value], dtype=TEXT)}) for value in values]
    assert len({int(row_hash(frame).iloc[0]) for frame in frames}) == len(values)


def test_row_hash_ignores_entry_date_and_the_days() -> None:
    others = {"ENTRYDATE": "2020-01-01", "_extraction_date": "2020-01-01", "_partition_date": "2020-01-01"}
    assert clean_csv(bronze(others, {})).rows["_row_hash"].nunique() == 1


def test_a_row_without_any_value_stays_a_row_of_nulls() -> None:
    rows = clean_csv(bronze(dict.fromkeys(ORDINARY))).rows.drop(columns="_row_hash")
    assert_frame_equal(rows, pd.DataFrame(pd.NA, index=[0], columns=rows.columns, dtype=TEXT))


def test_a_frame_without_rows_gives_frames_without_rows() -> None:
    clean = clean_csv(bronze())
    assert_frame_equal(clean.rows, clean_csv(bronze({})).rows.iloc[:0])
    assert list(clean.rejected.columns) == ["_source_file", "_source_row", "_partition_date", "reason", "raw_row"]
    assert clean.rejected.empty
    assert clean.separators == 0


def test_columns_may_come_in_any_order_and_with_others() -> None:
    raw = bronze({})
    mixed = raw[raw.columns[::-1]].assign(_extra='{"Rep": "-----"}', _source_file="SFTP/data_6.csv", _source_row=2)
    assert_frame_equal(clean_csv(mixed).rows, clean_csv(raw).rows)


def test_missing_bronze_columns_are_all_named() -> None:
    with pytest.raises(KeyError, match="STATE, ZIP"):
        clean_csv(bronze({}).drop(columns=["ZIP", "STATE"]))


def test_cleaned_columns_and_their_lengths_are_those_of_the_declared_types() -> None:
    declared = re.findall(
        r"^ +\('(\w+)', '([a-z]+)(?:\((\d+)\))?'\)", SILVER_TYPES.read_text(encoding="utf-8"), re.MULTILINE
    )
    lengths = {name: int(length) for name, kind, length in declared if kind == "varchar"}
    assert lengths.pop("lead_uuid") == 255, "a column of the leads"
    assert {name for name, _, _ in declared} - {"lead_uuid"} == set(clean_csv(bronze({})).rows.columns)
    assert lengths.pop("zip") >= 5, "no cleaned ZIP is longer"
    assert lengths == MAX_LENGTH


# --- separators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ORDINARY)
def test_a_row_with_a_separator_in_any_column_is_dropped_and_counted(column: str) -> None:
    clean = clean_csv(bronze({"CITY": "Reno"}, {column: "-----"}, {"CITY": "Boise"}))
    assert values(clean.rows["city"]) == ["Reno", "Boise"]
    assert clean.separators == 1
    assert clean.rejected.empty


def test_a_separator_row_is_counted_once_and_never_rejected() -> None:
    clean = clean_csv(bronze(dict.fromkeys(ORDINARY, "-----"), {"Set": "  ----- ", "APPT_DATE": "nu", "Demo": "?"}))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (0, 0, 2)


def test_only_five_dashes_are_a_separator() -> None:
    texts = ["----", "------", "- - - - -", "a-----"]
    assert each_cleaned("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


# --- NULL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "silver_column"), SILVER_NAMES.items())
def test_words_for_no_value_become_null_in_every_column(column: str, silver_column: str) -> None:
    written = [None, *NA_VALUES, "  ", " nan ", "\tNone\n", BLANKS]
    other = {"location": None} if column == "STATE" else {}
    assert each_cleaned(column, silver_column, written, **other) == dict.fromkeys(written)


def test_the_words_for_no_value_are_those_of_the_rule() -> None:
    assert set(NA_VALUES) == {"", "nan", "None", "<NA>", "NaT"}


def test_every_blank_alone_is_no_value() -> None:
    assert all(blank.isspace() for blank in BLANKS)
    clean = clean_csv(bronze(*({"CITY": blank, "email_hash": blank, "Dispo": 3 * blank} for blank in BLANKS)))
    assert clean.rows[["city", "email_hash", "dispo"]].isna().all(axis=None)


def test_every_character_that_python_calls_white_space_is_a_blank() -> None:
    assert {chr(code) for code in range(0x110000) if chr(code).isspace()} == set(BLANKS)


def test_other_words_are_text() -> None:
    texts = ["NaN", "NAN", "none", "NONE", "<na>", "nat", "NULL", "null", "NA", "N/A", "-", "nu"]
    assert each_cleaned("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


def test_characters_without_width_are_text_because_unicode_does_not_call_them_white_space() -> None:
    texts = ["\u200b", "\u2060", "\ufeff", "\u180e"]
    assert each_cleaned("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


# --- dates and times --------------------------------------------------------------------------------------------------


def test_a_date_is_read_in_each_of_the_three_layouts() -> None:
    cases: Cases = {
        "02/05/2023": "2023-02-05",
        "2023-02-05": "2023-02-05",
        "05-02-2023": "2023-02-05",
        "  02/05/2023 ": "2023-02-05",
        "\xa002/05/2023\u3000": "2023-02-05",
        "02/05/2023 17:30": "2023-02-05",
        "2023-02-05T17:30:00.123": "2023-02-05",
        "05-02-2023  5:30 pm": "2023-02-05",
        "02/29/2024": "2024-02-29",
        "02/29/2000": "2000-02-29",
        "12/31/9999": "9999-12-31",
        "01/01/0001": "0001-01-01",
    }
    assert each_cleaned("ENTRYDATE", "entry_date", cases) == cases


def test_a_date_that_no_calendar_has_is_null() -> None:
    written = [
        "02/29/2023",
        "02/29/1900",
        "02/30/2024",
        "04/31/2023",
        "13/01/2023",
        "00/10/2023",
        "01/00/2023",
        "01/32/2023",
        "2023-13-01",
        "31-04-2023",
        "01/01/0000",
        "00/00/0000",
    ]
    assert each_cleaned("ENTRYDATE", "entry_date", written) == dict.fromkeys(written)


def test_a_date_in_any_other_layout_is_null() -> None:
    written = [
        "2/5/2023",
        "2023-2-5",
        "02/05/23",
        "2023/02/05",
        "02.05.2023",
        "20230205",
        "02-05/2023",
        "Feb 5, 2023",
        "02/05/2023x",
        "x02/05/2023",
        "02/05/2023 soon",
        "02/05/20231:00PM",
        "44962",
        "nu",
        "\u0660\u0662/\u0660\u0665/\u0662\u0660\u0662\u0663",
    ]
    assert each_cleaned("ENTRYDATE", "entry_date", written) == dict.fromkeys(written)


def test_with_slashes_the_month_comes_first_and_with_dashes_the_day() -> None:
    assert cleaned("entry_date", ENTRYDATE="03/04/2023") == "2023-03-04"
    assert cleaned("entry_date", ENTRYDATE="03-04-2023") == "2023-04-03"


def test_the_time_of_an_appointment_is_kept_beside_its_date() -> None:
    cases: Cases = {
        "12/13/2022  1:00PM": "13:00:00",
        "01/02/2023  5:30PM": "17:30:00",
        "01/02/2023 5:30 pm": "17:30:00",
        "01/02/2023 5:30am": "05:30:00",
        "01/02/2023 12:00AM": "00:00:00",
        "01/02/2023 12:00PM": "12:00:00",
        "01/02/2023 11:59:59Pm": "23:59:59",
        "01/02/2023 00:00": "00:00:00",
        "01/02/2023 9:05": "09:05:00",
        "01/02/2023 23:59:59": "23:59:59",
        "2023-01-02T17:30:15": "17:30:15",
        "2023-01-02 17:30:15.999999": "17:30:15",
        "02-01-2023\t17:30": "17:30:00",
        "01/02/2023\xa05:30\u202fPM": "17:30:00",
    }
    assert each_cleaned("APPT_DATE", "appt_time", cases) == cases
    assert None not in each_cleaned("APPT_DATE", "appt_date", cases).values()


def test_an_appointment_without_a_time_of_day_has_a_null_time() -> None:
    clean = clean_csv(bronze({"APPT_DATE": "12/13/2022"})).rows
    assert values(clean["appt_date"]) == ["2022-12-13"]
    assert values(clean["appt_time"]) == [None]


def test_an_appointment_at_no_time_of_the_clock_is_null_date_and_time() -> None:
    written = [
        "12/13/2022 24:00",
        "12/13/2022 10:60",
        "12/13/2022 10:00:60",
        "12/13/2022 13:00PM",
        "12/13/2022 0:30AM",
        "12/13/2022 1PM",
        "12/13/2022 1:5PM",
        "12/13/2022 1:00P",
        "12/13/2022 1:00 p.m.",
        "12/13/2022 001:00",
        "12/13/2022 10:00Z",
        "12/13/2022 10:00+02:00",
        "12/13/2022 10:00:00.",
        "12/13/2022 10:00:00.1234567",
        "12/13/2022 10:00.5",
        "12/13/2022TT10:00",
        "12/13/2022T 10:00",
        "12/13/2022_10:00",
        "02/30/2023 10:00",
    ]
    assert each_cleaned("APPT_DATE", "appt_date", written) == dict.fromkeys(written)
    assert each_cleaned("APPT_DATE", "appt_time", written) == dict.fromkeys(written)


def test_a_nu_appointment_is_rejected() -> None:
    assert reason_for_rejecting(APPT_DATE="nu") == "APPT_DATE is 'nu'"
    assert reason_for_rejecting(APPT_DATE=" nu  ") == "APPT_DATE is 'nu'"


def test_an_appointment_that_only_looks_like_nu_is_null() -> None:
    written = ["NU", "Nu", "nul", "n u"]
    assert each_cleaned("APPT_DATE", "appt_date", written) == dict.fromkeys(written)


# --- state and ZIP ----------------------------------------------------------------------------------------------------


def test_the_usps_codes_are_the_states_the_district_and_the_territories() -> None:
    codes = {
        *("ME", "NH", "VT", "MA", "RI", "CT", "NY", "NJ", "PA"),
        *("DE", "MD", "VA", "WV", "NC", "SC", "GA", "FL", "AL", "MS", "TN", "KY", "AR", "LA", "OK", "TX"),
        *("OH", "IN", "IL", "MI", "WI", "MN", "IA", "MO", "ND", "SD", "NE", "KS"),
        *("MT", "WY", "CO", "NM", "ID", "UT", "AZ", "NV", "WA", "OR", "CA", "AK", "HI"),
        *("DC", "PR", "VI", "GU", "AS", "MP"),
    }
    assert codes == USPS_STATES
    every_pair = [first + second for first in ascii_uppercase for second in ascii_uppercase]
    own = each_cleaned("STATE", "state", every_pair, location=None)
    assert {code for code, state in own.items() if state == code} == codes
    assert set(own.values()) == {*codes, None}


def test_a_state_that_is_no_usps_code_comes_from_the_location() -> None:
    cases = {
        ("WA", "Las Vegas | NV"): "WA",
        (" WA\xa0", None): "WA",
        (None, "Las Vegas | NV"): "NV",
        ("  ", "Las Vegas | NV"): "NV",
        ("nu", "Las Vegas | NV"): "NV",
        ("nv", "Reno | CA"): "CA",
        ("XX", "Las Vegas | NV"): "NV",
        ("WAA", "Las Vegas | NV"): "NV",
        ("nan", "  Las Vegas |NV  "): "NV",
        (None, "Las Vegas |\u3000NV"): "NV",
        (None, "CA | Las Vegas | NV"): "NV",
        (None, "| NV"): "NV",
        (None, '" |   "'): None,
        (None, " |   "): None,
        (None, " | nu"): None,
        (None, "Las Vegas | nv"): None,
        (None, "Las Vegas | XX"): None,
        (None, "Las Vegas | NVX"): None,
        (None, "Las Vegas | N V"): None,
        (None, "Las Vegas | NV | nu"): None,
        (None, "Las Vegas, NV"): None,
        (None, "NV"): None,
        (None, "nan"): None,
        ("nu", None): None,
        ("washington", None): None,
        ("\uff37\uff21", None): None,
    }
    clean = clean_csv(bronze(*({"STATE": state, "location": location} for state, location in cases)))
    assert dict(zip(cases, values(clean.rows["state"]), strict=True)) == cases


def test_a_zip_is_five_digits_or_null() -> None:
    cases: Cases = {
        "98311": "98311",
        "02139": "02139",
        "00501": "00501",
        " 02139 ": "02139",
        "098311": "98311",
        "0000098311": "98311",
        "002139": "02139",
        "98311-1234": "98311",
        "02139-1234": "02139",
        "098311-1234": "98311",
        "0": None,
        "0000": None,
        "2139": None,
        "983111": None,
        "983111234": None,
        "98311-": None,
        "98311-123": None,
        "98311-12345": None,
        "98311 1234": None,
        "98311.0": None,
        "-98311": None,
        "9831a": None,
        "K1A 0B1": None,
        "nu": None,
        "\u0669\u0668\u0663\u0661\u0661": None,
        "\uff1983\uff11\uff11": None,
    }
    assert each_cleaned("ZIP", "zip", cases) == cases


# --- lead number and flags --------------------------------------------------------------------------------------------


def test_a_lead_number_stays_as_it_is_when_an_integer_of_32_bits_can_be_made_of_it() -> None:
    cases: Cases = {
        "0": "0",
        " 217893\t": "217893",
        "2147483647": "2147483647",
        "-2147483648": "-2147483648",
        "+12": "+12",
        "00000000000000000012": "00000000000000000012",
        "-0": "-0",
        None: None,
    }
    assert each_cleaned("LEADNUMBER", "lead_number", cases) == cases


def test_a_lead_number_that_is_no_32_bit_integer_is_rejected() -> None:
    written = [
        "2147483648",
        "-2147483649",
        "9999999999",
        "10000000000",
        "1" * 400,
        "12.0",
        "1e3",
        "1,000",
        "1_000",
        "0x1F",
        "--1",
        "+",
        "- 1",
        "1 2",
        "1\n2",
        "A217893",
        "nu",
        "\u0661\u0662",
        "\xb2",
    ]
    reason = "LEADNUMBER is not a 32-bit integer"
    assert reasons_for_rejecting_each("LEADNUMBER", written) == dict.fromkeys(written, reason)


@pytest.mark.parametrize("column", ["Set", "Demo"])
def test_a_flag_is_one_or_zero(column: str) -> None:
    cases: Cases = {"0": "0", "1": "1", "True": "1", "False": "0", " True\t": "1", "0 ": "0", "": None}
    assert each_cleaned(column, column.lower(), cases) == cases


@pytest.mark.parametrize("column", ["Set", "Demo"])
def test_a_flag_that_is_neither_is_rejected(column: str) -> None:
    written = ["2", "-1", "01", "1.0", "true", "TRUE", "yes", "T", "nu", "\uff11"]
    reason = f"{column} is not one of 0, 1, True, False"
    assert reasons_for_rejecting_each(column, written) == dict.fromkeys(written, reason)


# --- text columns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["CITY", "Dispo", "JOB_STATUS", "email_hash", "phone_hash"])
def test_a_text_stays_as_it_is_with_its_padding(column: str) -> None:
    texts = ["Bremerton          ", "  Reno", "a\nb", 'CXL "BT", later', "Ñuñoa", "\U0001f3e0"]
    assert each_cleaned(column, TEXT_COLUMNS[column], texts) == dict(zip(texts, texts, strict=True))


def test_a_location_loses_its_outer_blanks() -> None:
    cases: Cases = {
        "  Las Vegas | NV  ": "Las Vegas | NV",
        "\xa0Las Vegas\u3000": "Las Vegas",
        " |   ": "|",
        " | nu": "| nu",
        "Las  Vegas |  NV": "Las  Vegas |  NV",
    }
    assert each_cleaned("location", "location", cases) == cases


@pytest.mark.parametrize(("column", "silver_column"), TEXT_COLUMNS.items())
def test_a_text_as_long_as_its_column_stays_and_a_longer_one_is_rejected(column: str, silver_column: str) -> None:
    limit = MAX_LENGTH[silver_column]
    full = [letter * limit for letter in ("x", "é", "\U0001f3e0")]
    assert each_cleaned(column, silver_column, full) == dict(zip(full, full, strict=True))
    longer = [text + "x" for text in full]
    reason = f"{silver_column} is longer than {limit} characters"
    assert reasons_for_rejecting_each(column, longer) == dict.fromkeys(longer, reason)


def test_padding_counts_towards_the_length_of_a_text_but_not_of_a_location() -> None:
    assert reason_for_rejecting(CITY="x" + " " * 100) == "city is longer than 100 characters"
    assert cleaned("location", location="x" + " " * 300) == "x"


# --- rejected rows ----------------------------------------------------------------------------------------------------


def test_a_rejected_row_is_kept_whole_with_every_reason_and_where_it_stood() -> None:
    faulty = {"LEADNUMBER": "A1", "APPT_DATE": "nu", "Demo": "?", "CITY": 'O"Fallon\n', "ZIP": None}
    raw = bronze({"CITY": "Reno"}, faulty).assign(
        _source_file="SFTP/data_6.csv", _source_row=pd.array([2, 3], dtype="int64"), _extra='{"Rep": "Jo"}'
    )
    clean = clean_csv(raw)
    assert values(clean.rows["city"]) == ["Reno"]
    assert clean.rejected.drop(columns="raw_row").to_dict("records") == [
        {
            "_source_file": "SFTP/data_6.csv",
            "_source_row": 3,
            "_partition_date": "2024-10-06",
            "reason": "APPT_DATE is 'nu'; LEADNUMBER is not a 32-bit integer; Demo is not one of 0, 1, True, False",
        }
    ]
    kept = ORDINARY | faulty | {"_extra": '{"Rep": "Jo"}'}
    del kept["_partition_date"]  # it has a column of its own
    assert json.loads(clean.rejected["raw_row"][0]) == kept


def test_rows_are_rejected_also_where_the_lineage_is_not_known() -> None:
    rejected = clean_csv(bronze({"Set": "?"})).rejected
    assert values(rejected["_source_file"]) == [None]
    assert values(rejected["_source_row"]) == [None]
    assert values(rejected["_partition_date"]) == ["2024-10-06"]


# --- leads ------------------------------------------------------------------------------------------------------------


def leads(*rows: tuple[str | None, str | None, str | None]) -> pd.DataFrame:
    """Rows of bronze.leads_parquet: lead_UUID, phone_hash, email_hash."""
    ids = pd.DataFrame(list(rows), columns=["lead_UUID", "phone_hash", "email_hash"], dtype=TEXT)
    return ids.assign(_extraction_date=pd.Series("2024-11-01", index=ids.index, dtype=TEXT))


def clean_ids(*rows: tuple[str | None, str | None, str | None]) -> list[tuple[str, ...]]:
    return list(clean_parquet(leads(*rows)).rows.drop(columns="_extraction_date").itertuples(index=False, name=None))


def test_leads_get_silver_names() -> None:
    expected = pd.DataFrame(
        {"lead_uuid": ["a"], "phone_hash": ["p"], "email_hash": ["e"], "_extraction_date": ["2024-11-01"]}, dtype=TEXT
    )
    assert_frame_equal(clean_parquet(leads(("a", "p", "e"))).rows, expected)


def test_hashes_are_stripped_and_put_in_lower_case_and_the_uuid_is_not() -> None:
    assert clean_ids((" A1 ", " AbC\t", "\xa0EF\n")) == [(" A1 ", "abc", "ef")]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_lead_without_one_of_its_ids_is_dropped_and_counted(position: int) -> None:
    written = [None, *NA_VALUES, "  ", " nan ", BLANKS]
    raw = leads(("b", "p", "e"), *[("a", "p", "e")] * len(written))
    raw.iloc[1:, position] = pd.array(written, dtype=TEXT)
    clean = clean_parquet(raw)
    assert values(clean.rows["lead_uuid"]) == ["b"]
    assert clean.report.missing_id == len(written)


def test_of_equal_leads_the_first_stays() -> None:
    raw = leads(("a", "p", "e"), ("b", "p2", "e2"), ("a", " P ", "E"), ("a", "p", "e"))
    raw["_extraction_date"] = pd.array(["2024-11-01", "2024-11-02", "2024-11-03", "2024-11-04"], dtype=TEXT)
    clean = clean_parquet(raw)
    assert values(clean.rows["lead_uuid"]) == ["a", "b"]
    assert values(clean.rows["_extraction_date"]) == ["2024-11-01", "2024-11-02"]
    assert list(clean.rows.index) == [0, 1]
    assert clean.report.duplicates == 2


def test_leads_that_share_an_id_are_kept() -> None:
    clean = clean_parquet(leads(("a", "p1", "e1"), ("b", "P1", "E1"), ("b", "p3", "e3"), ("c", "p3", "e4")))
    assert len(clean.rows) == 4
    assert clean.report == (0, 0)


def test_leads_without_rows_are_clean() -> None:
    clean = clean_parquet(leads())
    assert_frame_equal(clean.rows, clean_parquet(leads(("a", "p", "e"))).rows.iloc[:0])
    assert set(clean.report) == {0}
