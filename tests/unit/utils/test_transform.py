"""Clean bronze frames (specification §5, docs/decisions/0003): one example at a time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from cleaning import (
    BLANKS,
    ORDINARY_ROW,
    Cases,
    bronze,
    clean_value,
    clean_values,
    reject_reason,
    reject_reasons,
    values,
)
from pandas.testing import assert_frame_equal

from etl.utils import transform
from etl.utils.columns import BLANK_ROW, CONTENT_COLUMNS, FOOTER, MAX_LENGTH, SILVER_NAMES
from etl.utils.frames import TEXT
from etl.utils.transform import NA_VALUES, clean_csv, clean_parquet, invalid_rows, row_hash

SILVER_TYPES = Path(__file__).parents[3] / "sql_scripts/silver/apply_silver_types.sql"


HASHED_COLUMNS = (
    *("lead_number", "email_hash", "phone_hash", "city", "state", "zip", "appt_date", "appt_time", "set", "demo"),
    *("dispo", "job_status", "location"),
)
HASH_OF_ORDINARY_ROW = -3_742_562_056_342_586_272
HASH_OF_NULL_ROW = -2_658_414_188_429_102_942
TEXT_COLUMNS = {
    "email_hash": "email_hash",
    "phone_hash": "phone_hash",
    "CITY": "city",
    "Dispo": "dispo",
    "JOB_STATUS": "job_status",
    "location": "location",
}


# --- Frames -----------------------------------------------------------------------------------------------------------


def test_ordinary_row_gets_silver_names_and_iso_texts() -> None:
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
    """Hashes in a warehouse outlive a release: another algorithm needs all days to be cleaned again."""
    monkeypatch.setattr(transform, "CONTENT_COLUMNS", HASHED_COLUMNS)
    rows = clean_csv(bronze({})).rows
    null_row = rows.assign(**{name: pd.array([pd.NA], dtype=TEXT) for name in HASHED_COLUMNS})
    assert [*rows["_row_hash"], *row_hash(null_row)] == [HASH_OF_ORDINARY_ROW, HASH_OF_NULL_ROW]


@pytest.mark.parametrize("column", CONTENT_COLUMNS)
def test_row_hash_distinguishes_null_from_any_text_in_each_column(column: str) -> None:
    rows = clean_csv(bronze({})).rows
    values = [pd.NA, "", "None", "<NA>", "nan", "0"]
    frames = [rows.assign(**{column: pd.Series([value], dtype=TEXT)}) for value in values]
    assert len({int(row_hash(frame).iloc[0]) for frame in frames}) == len(values)


def test_row_hash_ignores_entry_date_and_partition_date() -> None:
    others = {"ENTRYDATE": "2020-01-01", "_extraction_date": "2020-01-01", "_partition_date": "2020-01-01"}
    assert clean_csv(bronze(others, {})).rows["_row_hash"].nunique() == 1


def test_row_with_one_id_alone_stays_a_row() -> None:
    for name in ("LEADNUMBER", "email_hash", "phone_hash"):
        rows = clean_csv(bronze(dict.fromkeys(ORDINARY_ROW) | {name: "7"})).rows
        assert len(rows) == 1
        assert rows.drop(columns="_row_hash").notna().sum().sum() == 1


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({}, BLANK_ROW),
        ({"ENTRYDATE": "TOTAL: 3,723"}, FOOTER),
        ({"CITY": "Copyright", "email_hash": " ", "phone_hash": "nan"}, FOOTER),
        ({"ENTRYDATE": "Total", "CITY": "3,723"}, "LEADNUMBER, email_hash and phone_hash have no value"),
        ({"ENTRYDATE": "10/01/2024", "Set": "0"}, "LEADNUMBER, email_hash and phone_hash have no value"),
    ],
)
def test_row_without_ids_is_rejected(cells: dict[str, str], reason: str) -> None:
    raw = bronze({}, dict.fromkeys(ORDINARY_ROW) | cells)
    clean = clean_csv(raw)
    assert values(clean.rejected["reason"]) == [reason]
    assert values(invalid_rows(raw)[0]["reason"]) == [reason]


def test_values_that_become_null_are_counted_with_samples() -> None:
    raw = bronze(*({"ZIP": zip_code} for zip_code in ("98311", "2139", "0", "", "2140", "2139", "x" * 100)))
    counted = clean_csv(raw).nulled["zip"]
    assert (counted.values, counted.nulled) == (5, 4)
    assert counted.samples == ("'2139'", "'2140'", f"'{'x' * 80}… (100 characters)'")
    assert counted + counted == (10, 8, counted.samples)


def test_placeholders_of_the_crm_do_not_count_as_values() -> None:
    nulled = clean_csv(
        bronze({"STATE": "nu", "location": "", "ZIP": "0", "APPT_DATE": " "}, {"STATE": "XX"}, {"ZIP": "0.0"})
    ).nulled
    assert {name: (counted.values, counted.nulled) for name, counted in nulled.items()} == {
        "entry_date": (3, 0),
        "appt_date": (2, 0),
        "state": (2, 0),
        "zip": (1, 0),
    }


def test_frame_without_rows_gives_frames_without_rows() -> None:
    clean = clean_csv(bronze())
    assert_frame_equal(clean.rows, clean_csv(bronze({})).rows.iloc[:0])
    assert list(clean.rejected.columns) == ["_source_file", "_source_row", "_partition_date", "reason", "raw_row"]
    assert clean.rejected.empty
    assert clean.separators == 0


def test_column_order_and_additional_columns_do_not_matter() -> None:
    raw = bronze({}).assign(_source_row="2")
    mixed = raw[raw.columns[::-1]].assign(_extra='{"Rep": "-----"}', _source_file="SFTP/data_6.csv")
    assert_frame_equal(clean_csv(mixed).rows, clean_csv(raw).rows)


def test_cleaned_rows_keep_the_line_of_the_file() -> None:
    raw = bronze({}, {"CITY": "-----"}, {"Set": "maybe"}, {}).assign(_source_row=["2", "3", "4", "6"])
    assert values(clean_csv(raw).rows["_source_row"]) == ["2", "6"]


def test_missing_bronze_columns_are_named() -> None:
    with pytest.raises(KeyError, match="STATE, ZIP"):
        clean_csv(bronze({}).drop(columns=["ZIP", "STATE"]))


def test_cleaned_columns_and_lengths_match_the_declared_types() -> None:
    declared = re.findall(
        r"^ +\('(\w+)', '([a-z]+)(?:\((\d+)\))?'\)", SILVER_TYPES.read_text(encoding="utf-8"), re.MULTILINE
    )
    lengths = {name: int(length) for name, kind, length in declared if kind == "varchar"}
    assert lengths.pop("lead_uuid") == 255, "a column of the leads"
    assert {name for name, _, _ in declared} - {"lead_uuid"} == set(clean_csv(bronze({})).rows.columns)
    assert lengths.pop("zip") >= 5, "no clean ZIP is longer"
    assert lengths == MAX_LENGTH


# --- Separators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ORDINARY_ROW)
def test_separator_in_any_column_drops_the_row_and_is_counted(column: str) -> None:
    clean = clean_csv(bronze({"CITY": "Reno"}, {column: "-----"}, {"CITY": "Boise"}))
    assert values(clean.rows["city"]) == ["Reno", "Boise"]
    assert clean.separators == 1
    assert clean.rejected.empty


def test_separator_row_is_counted_once_and_never_rejected() -> None:
    clean = clean_csv(bronze(dict.fromkeys(ORDINARY_ROW, "-----"), {"Set": "  ----- ", "APPT_DATE": "nu", "Demo": "?"}))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (0, 0, 2)


def test_only_five_dashes_are_a_separator() -> None:
    texts = ["----", "------", "- - - - -", "a-----"]
    assert clean_values("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


# --- NULL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "silver_column"), SILVER_NAMES.items())
def test_na_values_become_null_in_every_column(column: str, silver_column: str) -> None:
    written = [None, *NA_VALUES, "  ", " nan ", "\tNone\n", BLANKS]
    other = {"location": None} if column == "STATE" else {}
    assert clean_values(column, silver_column, written, **other) == dict.fromkeys(written)


def test_na_values_are_those_of_the_specification() -> None:
    assert set(NA_VALUES) == {"", "nan", "None", "<NA>", "NaT"}


def test_cell_of_white_space_is_null() -> None:
    assert all(blank.isspace() for blank in BLANKS)
    clean = clean_csv(bronze(*({"CITY": blank, "email_hash": blank, "Dispo": 3 * blank} for blank in BLANKS)))
    assert clean.rows[["city", "email_hash", "dispo"]].isna().all(axis=None)


def test_white_space_of_python_counts_as_blank() -> None:
    assert {chr(code) for code in range(0x110000) if chr(code).isspace()} == set(BLANKS)


def test_words_similar_to_na_values_are_text() -> None:
    texts = ["NaN", "NAN", "none", "NONE", "<na>", "nat", "NULL", "null", "NA", "N/A", "-", "nu"]
    assert clean_values("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


def test_zero_width_characters_are_text() -> None:
    texts = ["\u200b", "\u2060", "\ufeff", "\u180e"]
    assert clean_values("CITY", "city", texts) == dict(zip(texts, texts, strict=True))


# --- Text columns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["CITY", "Dispo", "JOB_STATUS", "email_hash", "phone_hash"])
def test_text_keeps_its_padding(column: str) -> None:
    texts = ["Bremerton          ", "  Reno", "a\nb", 'CXL "BT", later', "Ñuñoa", "\U0001f3e0"]
    assert clean_values(column, TEXT_COLUMNS[column], texts) == dict(zip(texts, texts, strict=True))


def test_location_loses_leading_and_trailing_blanks() -> None:
    cases: Cases = {
        "  Las Vegas | NV  ": "Las Vegas | NV",
        "\xa0Las Vegas\u3000": "Las Vegas",
        " |   ": "|",
        " | nu": "| nu",
        "Las  Vegas |  NV": "Las  Vegas |  NV",
    }
    assert clean_values("location", "location", cases) == cases


@pytest.mark.parametrize(("column", "silver_column"), TEXT_COLUMNS.items())
def test_text_of_maximum_length_is_kept_and_longer_text_is_rejected(column: str, silver_column: str) -> None:
    limit = MAX_LENGTH[silver_column]
    full = [letter * limit for letter in ("x", "é", "\U0001f3e0")]
    assert clean_values(column, silver_column, full) == dict(zip(full, full, strict=True))
    longer = [text + "x" for text in full]
    reason = f"{silver_column} is longer than {limit} characters"
    assert reject_reasons(column, longer) == dict.fromkeys(longer, reason)


def test_padding_counts_towards_length_except_in_location() -> None:
    assert reject_reason(CITY="x" + " " * 100) == "city is longer than 100 characters"
    assert clean_value("location", location="x" + " " * 300) == "x"


# --- Rejected rows ----------------------------------------------------------------------------------------------------


def test_rejected_row_keeps_all_cells_reasons_and_its_position() -> None:
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
    kept = ORDINARY_ROW | faulty | {"_extra": {"Rep": "Jo"}}
    del kept["_partition_date"], kept["_extraction_date"]  # of the pipeline, not of the file
    assert json.loads(clean.rejected["raw_row"][0]) == kept


def test_rows_without_lineage_are_rejected_as_well() -> None:
    rejected = clean_csv(bronze({"Set": "?"})).rejected
    assert values(rejected["_source_file"]) == [None]
    assert values(rejected["_source_row"]) == [None]
    assert values(rejected["_partition_date"]) == ["2024-10-06"]


# --- Leads ------------------------------------------------------------------------------------------------------------


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


def test_hashes_are_stripped_and_lowercased_and_uuid_is_kept() -> None:
    assert clean_ids((" A1 ", " AbC\t", "\xa0EF\n")) == [(" A1 ", "abc", "ef")]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_lead_with_missing_id_is_dropped_and_counted(position: int) -> None:
    written = [None, *NA_VALUES, "  ", " nan ", BLANKS]
    raw = leads(("b", "p", "e"), *[("a", "p", "e")] * len(written))
    raw.iloc[1:, position] = pd.array(written, dtype=TEXT)
    clean = clean_parquet(raw)
    assert values(clean.rows["lead_uuid"]) == ["b"]
    assert clean.report.missing_id == len(written)


def test_first_of_equal_leads_is_kept() -> None:
    raw = leads(("a", "p", "e"), ("b", "p2", "e2"), ("a", " P ", "E"), ("a", "p", "e"))
    raw["_extraction_date"] = pd.array(["2024-11-01", "2024-11-02", "2024-11-03", "2024-11-04"], dtype=TEXT)
    clean = clean_parquet(raw)
    assert values(clean.rows["lead_uuid"]) == ["a", "b"]
    assert values(clean.rows["_extraction_date"]) == ["2024-11-01", "2024-11-02"]
    assert list(clean.rows.index) == [0, 1]
    assert clean.report.duplicates == 2


def test_leads_that_differ_only_in_zero_width_characters_are_duplicates() -> None:
    clean = clean_parquet(leads(("a", "p", "e"), ("a", "p", "e\u200b"), ("a", "\ufeffP\xa0", "e")))
    assert clean.rows[["lead_uuid", "phone_hash", "email_hash"]].to_numpy().tolist() == [["a", "p", "e"]]
    assert clean.report.duplicates == 2


def test_leads_with_a_shared_id_are_kept() -> None:
    clean = clean_parquet(leads(("a", "p1", "e1"), ("b", "P1", "E1"), ("b", "p3", "e3"), ("c", "p3", "e4")))
    assert len(clean.rows) == 4
    assert clean.report == (0, 0)


def test_empty_frame_of_leads_is_accepted() -> None:
    clean = clean_parquet(leads())
    assert_frame_equal(clean.rows, clean_parquet(leads(("a", "p", "e"))).rows.iloc[:0])
    assert set(clean.report) == {0}
