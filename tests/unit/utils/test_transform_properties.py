"""Clean generated rows: the result is that of a slow, obvious implementation of specification §5."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import date
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
from cleaning import ORDINARY_ROW
from cleaning_oracle import LEAD_COLUMNS, NA_VALUES, Row, expected_leads, expected_nulled, expected_result
from cleaning_strategies import FEW_ROWS, KINDS_OF_TEXT, LEADS, MANY_ROWS
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from etl.utils.columns import CONTENT_COLUMNS
from etl.utils.frames import TEXT
from etl.utils.transform import clean_csv, clean_parquet, invalid_rows

DETERMINISTIC = settings(deadline=None, derandomize=True, database=None)
MANY, SOME = settings(DETERMINISTIC, max_examples=100), settings(DETERMINISTIC, max_examples=20)


def bronze(rows: list[Row], kind: object = TEXT) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(ORDINARY_ROW), dtype=kind)
    return frame.assign(_source_file="SFTP/data_6.csv", _source_row=range(2, 2 + len(rows)))


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return pa.Table.from_pandas(frame, preserve_index=False).to_pylist()


def cells_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Cleaned rows without their hash: text and NULL."""
    return as_rows(rows.drop(columns="_row_hash"))


# --- clean_csv --------------------------------------------------------------------------------------------------------


@MANY
@given(MANY_ROWS)
def test_generated_rows_are_cleaned_by_the_rules_in_order(rows: list[Row]) -> None:
    clean = clean_csv(bronze(rows))
    results = [expected_result(row) for row in rows]
    expected = [result for outcome, result in results if outcome == "row"]
    assert [
        {name: row[name] for name in result} for row, result in zip(cells_of(clean.rows), expected, strict=True)
    ] == expected
    assert clean.separators == sum(outcome == "separator" for outcome, _ in results)
    assert len(rows) == len(clean.rows) + len(clean.rejected) + clean.separators

    rejected = [
        {
            "_source_row": line,
            "_partition_date": row["_partition_date"],
            "invalid": result,
            "raw_row": {name: row[name] for name in row if name not in ("_partition_date", "_extraction_date")},
        }
        for line, (row, (outcome, result)) in enumerate(zip(rows, results, strict=True), start=2)
        if outcome == "rejected"
    ]
    assert [
        {
            "_source_row": row["_source_row"],
            "_partition_date": row["_partition_date"],
            "invalid": {reason.split(" is ")[0] for reason in row["reason"].split("; ")},
            "raw_row": json.loads(row["raw_row"]),
        }
        for row in as_rows(clean.rejected)
    ] == rejected
    assert len(invalid_rows(bronze(rows))[0]) == len(rejected)
    kept = [(row, result) for row, (outcome, result) in zip(rows, results, strict=True) if outcome == "row"]
    nulled: Counter[str] = Counter()
    for row, result in kept:
        nulled.update(expected_nulled(row, result))
    assert {name: counted.nulled for name, counted in clean.nulled.items()} == {
        name: nulled[name] for name in clean.nulled
    }


@SOME
@given(MANY_ROWS)
def test_row_hash_is_equal_exactly_for_equal_content(rows: list[Row]) -> None:
    by_content: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for row in as_rows(clean_csv(bronze(rows)).rows):
        by_content[tuple(row[name] for name in CONTENT_COLUMNS)].add(row["_row_hash"])
    hashes = [value for values in by_content.values() for value in values]
    assert all(len(values) == 1 for values in by_content.values())
    assert len(set(hashes)) == len(by_content)


@SOME
@given(MANY_ROWS)
def test_clean_cells_are_unambiguous_in_sql(rows: list[Row]) -> None:
    clean = cells_of(clean_csv(bronze(rows)).rows)
    cells = [cell for row in clean for cell in row.values() if cell is not None]
    assert not [cell for cell in cells if cell.isspace() or cell.strip() in NA_VALUES]
    for row in clean:
        assert row["appt_time"] is None or row["appt_date"] is not None
        for name in ("entry_date", "appt_date"):
            assert row[name] is None or date.fromisoformat(row[name]).isoformat() == row[name]


@SOME
@given(FEW_ROWS, st.data())
def test_cleaning_two_halves_equals_cleaning_the_whole(rows: list[Row], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    raw = bronze(rows)
    whole, first, second = clean_csv(raw), clean_csv(raw.iloc[:cut]), clean_csv(raw.iloc[cut:])
    assert as_rows(whole.rows) == as_rows(first.rows) + as_rows(second.rows)
    assert as_rows(whole.rejected) == as_rows(first.rejected) + as_rows(second.rejected)
    assert whole.separators == first.separators + second.separators


@settings(SOME, max_examples=40)
@given(FEW_ROWS, KINDS_OF_TEXT, st.randoms())
def test_text_type_and_index_do_not_matter_and_input_is_unchanged(
    rows: list[Row], kind: object, random: Random
) -> None:
    raw = bronze(rows, kind).set_axis([random.randint(0, 3) for _ in rows], axis="index")
    before = raw.copy(deep=True)
    clean, expected = clean_csv(raw), clean_csv(bronze(rows))
    assert_frame_equal(clean.rows, expected.rows)
    assert as_rows(clean.rejected) == as_rows(expected.rejected)
    assert clean.separators == expected.separators
    assert_frame_equal(raw, before)


# --- clean_parquet ----------------------------------------------------------------------------------------------------


def leads(rows: list[Row], kind: object = TEXT) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=LEAD_COLUMNS, dtype=kind)


@MANY
@given(LEADS)
def test_generated_leads_are_cleaned_by_the_rules_and_counted(rows: list[Row]) -> None:
    clean = clean_parquet(leads(rows))
    expected_rows, expected_report = expected_leads(rows)
    assert as_rows(clean.rows) == expected_rows
    assert clean.report._asdict() == expected_report
    assert len(rows) == len(clean.rows) + clean.report.missing_id + clean.report.duplicates


@settings(SOME, max_examples=40)
@given(LEADS, KINDS_OF_TEXT)
def test_text_type_and_index_of_leads_do_not_matter_and_input_is_unchanged(rows: list[Row], kind: object) -> None:
    raw = leads(rows, kind).set_axis([0] * len(rows), axis="index")
    before = raw.copy(deep=True)
    clean, expected = clean_parquet(raw), clean_parquet(leads(rows))
    assert_frame_equal(clean.rows, expected.rows)
    assert clean.report == expected.report
    assert_frame_equal(raw, before)


@SOME
@given(LEADS)
def test_clean_leads_stay_unchanged(rows: list[Row]) -> None:
    clean = clean_parquet(leads([row for row in rows if "nan" not in str(row).lower()])).rows
    again = clean_parquet(clean.rename(columns={"lead_uuid": "lead_UUID"}))
    assert_frame_equal(again.rows, clean)
    assert (again.report.missing_id, again.report.duplicates) == (0, 0)
