"""The cleaning rules on generated rows, compared with a slow, obvious implementation of the specification, §5."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date, time
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pandas.testing import assert_frame_equal

from etl.utils.columns import CONTENT_COLUMNS
from etl.utils.frames import TEXT
from etl.utils.transform import clean_csv, clean_parquet, count_invalid

Row = dict[str, str | None]

STEADY = settings(deadline=None, derandomize=True, database=None)
MANY, SOME = settings(STEADY, max_examples=100), settings(STEADY, max_examples=20)


# --- the rules, read plainly ------------------------------------------------------------------------------------------

NOTHING = {"", "nan", "None", "<NA>", "NaT"}

STATES = set(
    "AK AL AR AS AZ CA CO CT DC DE FL GA GU HI IA ID IL IN KS KY LA MA MD ME MI MN MO MP MS MT NC ND NE NH NJ NM NV NY "
    "OH OK OR PA PR RI SC SD TN TX UT VA VI VT WA WI WV WY".split()
)
LONGEST = {"email_hash": 255, "phone_hash": 255, "city": 100, "dispo": 50, "job_status": 100, "location": 255}


def fate_of(raw: Row) -> tuple[str, Any]:
    """What a bronze row becomes: a separator, a rejected row with the columns at fault, or a clean row."""
    if any(cell is not None and cell.strip() == "-----" for cell in raw.values()):
        return "separator", None

    # A word for "no value" is no value; blanks around a date, number, flag, code or location are no part of it.
    cell = {name: None if text is None or text.strip() in NOTHING else text for name, text in raw.items()}
    bare = {name: None if text is None else text.strip() for name, text in cell.items()}

    appointment_day, appointment_time = moment(bare["APPT_DATE"])
    clean = {
        "entry_date": moment(bare["ENTRYDATE"])[0],
        "lead_number": bare["LEADNUMBER"],
        "email_hash": cell["email_hash"],
        "phone_hash": cell["phone_hash"],
        "city": cell["CITY"],
        "state": state_of(bare["STATE"], bare["location"]),
        "zip": zip_of(bare["ZIP"]),
        "appt_date": appointment_day,
        "appt_time": appointment_time,
        "set": {"True": "1", "False": "0"}.get(bare["Set"], bare["Set"]),
        "demo": {"True": "1", "False": "0"}.get(bare["Demo"], bare["Demo"]),
        "dispo": cell["Dispo"],
        "job_status": cell["JOB_STATUS"],
        "location": bare["location"],
        "_extraction_date": cell["_extraction_date"],
        "_partition_date": cell["_partition_date"],
    }

    faults = {name for name, limit in LONGEST.items() if clean[name] is not None and len(clean[name]) > limit}
    if bare["APPT_DATE"] == "nu":
        faults.add("APPT_DATE")
    if clean["lead_number"] is not None and not is_int32(clean["lead_number"]):
        faults.add("LEADNUMBER")
    if clean["set"] not in ("0", "1", None):
        faults.add("Set")
    if clean["demo"] not in ("0", "1", None):
        faults.add("Demo")
    return ("rejected", faults) if faults else ("row", clean)


def is_digits(text: str, least: int, most: int) -> bool:
    return least <= len(text) <= most and all(letter in "0123456789" for letter in text)


def moment(text: str | None) -> tuple[str | None, str | None]:
    """Date and time of day as ISO text; both None when either cannot be."""
    if text is None:
        return None, None
    day, rest = text[:10], text[10:]
    if day[2:3] == day[5:6] == "/":
        month_of_year, day_of_month, year = day[:2], day[3:5], day[6:]
    elif day[2:3] == day[5:6] == "-":
        day_of_month, month_of_year, year = day[:2], day[3:5], day[6:]
    elif day[4:5] == day[7:8] == "-":
        year, month_of_year, day_of_month = day[:4], day[5:7], day[8:]
    else:
        return None, None
    if not (is_digits(year, 4, 4) and is_digits(month_of_year, 2, 2) and is_digits(day_of_month, 2, 2)):
        return None, None
    try:
        on = date(int(year), int(month_of_year), int(day_of_month)).isoformat()
        return on, (time_of_day(rest) if rest else None)
    except ValueError:
        return None, None


def time_of_day(text: str) -> str:
    """What follows a date, its gap included, as HH:MM:SS. Raises ValueError when it is no time of day."""
    if text[0] == "T":
        clock = text[1:]
    elif text[0].isspace():
        clock = text.lstrip()
    else:
        raise ValueError("no gap between date and time")
    half = clock[-2:].upper() if clock[-2:].isascii() else ""
    if half in ("AM", "PM"):
        clock = clock[:-2].rstrip()
    hour, minute, *seconds = clock.split(":")
    second, point, fraction = seconds[0].partition(".") if seconds else ("00", "", "")
    if not (is_digits(hour, 1, 2) and is_digits(minute, 2, 2) and is_digits(second, 2, 2) and len(seconds) <= 1):
        raise ValueError("no clock shows that")
    if point and not is_digits(fraction, 1, 6):
        raise ValueError("no fraction of a second")
    if half not in ("AM", "PM"):
        return time(int(hour), int(minute), int(second)).isoformat()
    if not 1 <= int(hour) <= 12:
        raise ValueError("no hour of a half day")
    hour_of_half = 0 if hour == "12" else int(hour)
    return time(hour_of_half + (12 if half == "PM" else 0), int(minute), int(second)).isoformat()


def state_of(state: str | None, location: str | None) -> str | None:
    if state in STATES:
        return state
    if location is not None and "|" in location:
        code = location.split("|")[-1].strip()
        return code if code in STATES else None
    return None


def zip_of(text: str | None) -> str | None:
    if text is None:
        return None
    digits, dash, plus_4 = text.partition("-")
    if not is_digits(digits, 5, len(text)) or (dash and not is_digits(plus_4, 4, 4)):
        return None
    superfluous, five = digits[:-5], digits[-5:]
    return five if superfluous.strip("0") == "" else None


def is_int32(text: str) -> bool:
    digits = text[1:] if text[0] in "+-" else text
    return is_digits(digits, 1, len(text)) and -(2**31) <= int(text) < 2**31


# --- rows as they might come ------------------------------------------------------------------------------------------

ORDINARY: Row = {
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

BLANK = st.sampled_from(" \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000")
NEARLY_BLANK = st.sampled_from("\u200b\u2060\ufeff\u180e")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
UNICODE_DIGITS = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")
NO_VALUE = st.one_of(
    st.sampled_from([None, *NOTHING, "NULL", "NaN", "none", "  "]),
    st.text(BLANK | NEARLY_BLANK, min_size=1, max_size=3),
)


def odd(*usual: SearchStrategy[str]) -> SearchStrategy[str | None]:
    """Mostly what is usual, now and then padded, in foreign digits, without a value, or anything at all."""
    text = st.one_of(*usual)
    padded = st.builds("{}{}{}".format, st.text(BLANK, max_size=2), text, st.text(BLANK, max_size=2))
    foreign = text.map(lambda value: value.translate(UNICODE_DIGITS))
    return st.one_of(text, text, padded, foreign, NO_VALUE, ANY_TEXT)


DAYS = st.one_of(
    st.dates().map(lambda day: (day.year, day.month, day.day)),
    st.tuples(st.sampled_from([2023, 2024, 1900, 2000]), st.just(2), st.integers(28, 30)),
    st.tuples(st.sampled_from([0, 1, 999, 2024, 9999]), st.sampled_from([0, 4, 6, 9, 11, 12, 13]), st.integers(0, 32)),
)
DAY_LAYOUTS = st.sampled_from(
    ["{1:02}/{2:02}/{0:04}", "{0:04}-{1:02}-{2:02}", "{2:02}-{1:02}-{0:04}"] * 3
    + [
        "{1}/{2}/{0}",
        "{0}-{1}-{2}",
        "{0:04}/{1:02}/{2:02}",
        "{1:02}-{2:02}/{0:04}",
        "{0:04}{1:02}{2:02}",
        "{1:02}/{2:02}",
    ]
)
WRITTEN_DAYS = st.builds(lambda layout, day: layout.format(*day), DAY_LAYOUTS, DAYS)
CLOCKS = st.builds(
    lambda layout, hour, minute, second: layout.format(hour, minute, second),
    st.sampled_from(
        ["{0}:{1:02}", "{0:02}:{1:02}", "{0:02}:{1:02}:{2:02}"] * 3 + ["{0}", "{0}:{1}", "{0}:{1:02}:{2:02}.5"]
    ),
    st.one_of(st.integers(0, 23), st.sampled_from([0, 12, 13, 24, 25])),
    st.one_of(st.integers(0, 59), st.sampled_from([60, 99])),
    st.one_of(st.integers(0, 59), st.sampled_from([60, 61])),
)
HALVES = st.one_of(st.just(""), st.sampled_from(["AM", "PM", "am", "pM", " PM", "\u3000am", " P.M.", "Z", "+01:00"]))
GAPS = st.one_of(st.sampled_from([" ", "  ", "T"]), st.sampled_from(["", "t", "T ", ",", "\t"]), BLANK, NEARLY_BLANK)
MOMENTS = odd(WRITTEN_DAYS, st.builds("{}{}{}{}".format, WRITTEN_DAYS, GAPS, CLOCKS, HALVES))

CODES = st.one_of(
    st.sampled_from(sorted(STATES)), st.sampled_from(["nv", "Nv", "nu", "XX", "USA", "N", "N V", "  ", ""])
)
LOCATIONS = st.one_of(
    st.builds("{} {}|{}{}".format, ANY_TEXT, st.sampled_from(["", "| ", "NV |"]), st.text(BLANK, max_size=2), CODES),
    st.sampled_from(["Las Vegas | NV", ' " |   "', " |   ", " | nu", "Las Vegas, NV", "NV", "|", "NV |", "x" * 256]),
)

ZIPS = st.one_of(
    st.from_regex(r"[0-9]{5}", fullmatch=True),
    st.from_regex(r"0*[0-9]{4,6}(-[0-9]{3,5})?", fullmatch=True),
    st.sampled_from(
        ["0", "02139", "00501", "002139", "0000000", "98311-1234", "98311-", "98311 1234", "98311.0", "-98311"]
    ),
)

NUMBERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "-", "+", "--", "- "]),
    st.sampled_from(["", "", "0", "0" * 30]),
    st.one_of(
        st.integers(0, 10**6),
        st.integers(2**31 - 2, 2**31 + 2),
        st.integers(10**9, 10**11),
        st.sampled_from(["", "9" * 400, "12.0", "1e3", "1_000", "\xb2"]),
    ),
)

FLAGS = st.one_of(
    st.sampled_from(["0", "1", "True", "False"]), st.sampled_from(["2", "-1", "01", "1.0", "true", "FALSE", "yes"])
)


def texts(longest: int) -> SearchStrategy[str | None]:
    as_long = st.builds(
        lambda letter, length, end: letter * length + end,
        st.sampled_from(["x", "é", "\U0001f3e0"]),
        st.integers(longest - 1, longest),
        st.sampled_from(["", " ", "y"]),
    )
    return odd(st.sampled_from(["Boise", "boise", "Reno   ", "-", "----", "nan ", 'O"Fallon, IL', "Set"]), as_long)


CELLS = {
    "ENTRYDATE": MOMENTS,
    "LEADNUMBER": odd(NUMBERS),
    "email_hash": texts(255),
    "phone_hash": texts(255),
    "CITY": texts(100),
    "STATE": odd(CODES),
    "ZIP": odd(ZIPS),
    "APPT_DATE": st.one_of(MOMENTS, MOMENTS, st.sampled_from(["nu", " nu ", "NU", "nul"])),
    "Set": odd(FLAGS),
    "Demo": odd(FLAGS),
    "Dispo": texts(50),
    "JOB_STATUS": texts(100),
    "location": odd(LOCATIONS),
    "_extraction_date": NO_VALUE | st.just("2024-11-02"),
    "_partition_date": NO_VALUE | st.just("2024-10-07"),
}
NEVER_A_FAULT = ("ENTRYDATE", "STATE", "ZIP", "location", "_extraction_date")
SEPARATORS = st.dictionaries(st.sampled_from(list(CELLS)), st.sampled_from(["-----", " -----\t", "------"]), max_size=2)
# One odd cell in an ordinary row: what is wrong with it cannot hide behind another fault.
ONE_ODD_CELL = st.sampled_from([*CELLS, "ENTRYDATE", "APPT_DATE", "ZIP"]).flatmap(
    lambda name: st.fixed_dictionaries({name: CELLS[name]})
)
ROWS = st.one_of(
    ONE_ODD_CELL,
    ONE_ODD_CELL,
    st.fixed_dictionaries({}, optional={name: CELLS[name] for name in NEVER_A_FAULT}),
    st.fixed_dictionaries({}, optional=CELLS),
    SEPARATORS,
).map(lambda cells: ORDINARY | cells)
FEW_ROWS, MANY_ROWS = st.lists(ROWS, max_size=12), st.lists(ROWS, min_size=8, max_size=24)


KINDS_OF_TEXT = st.sampled_from([object, "str", pd.StringDtype("python"), pd.ArrowDtype(pa.large_string()), TEXT])


def bronze(rows: list[Row], kind: object = TEXT) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(ORDINARY), dtype=kind)
    return frame.assign(_source_file="SFTP/data_6.csv", _source_row=range(2, 2 + len(rows)))


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return pa.Table.from_pandas(frame, preserve_index=False).to_pylist()


def texts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Cleaned rows without their hash: text and NULL."""
    return as_rows(rows.drop(columns="_row_hash"))


# --- clean_csv --------------------------------------------------------------------------------------------------------


@MANY
@given(MANY_ROWS)
def test_every_row_becomes_what_the_rules_say_and_keeps_its_place(rows: list[Row]) -> None:
    clean = clean_csv(bronze(rows))
    fates = [fate_of(row) for row in rows]
    expected = [result for fate, result in fates if fate == "row"]
    assert [
        {name: row[name] for name in result} for row, result in zip(texts(clean.rows), expected, strict=True)
    ] == expected
    assert clean.separators == sum(fate == "separator" for fate, _ in fates)
    assert len(rows) == len(clean.rows) + len(clean.rejected) + clean.separators

    rejected = [
        {
            "_source_row": line,
            "_partition_date": row["_partition_date"],
            "at_fault": result,
            "raw_row": {name: row[name] for name in row if name != "_partition_date"},
        }
        for line, (row, (fate, result)) in enumerate(zip(rows, fates, strict=True), start=2)
        if fate == "rejected"
    ]
    assert [
        {
            "_source_row": row["_source_row"],
            "_partition_date": row["_partition_date"],
            "at_fault": {reason.split(" is ")[0] for reason in row["reason"].split("; ")},
            "raw_row": json.loads(row["raw_row"]),
        }
        for row in as_rows(clean.rejected)
    ] == rejected
    assert count_invalid(bronze(rows)) == len(rejected), "known without cleaning all of them"


@SOME
@given(MANY_ROWS)
def test_row_hash_is_equal_exactly_where_the_content_is(rows: list[Row]) -> None:
    by_content: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for row in as_rows(clean_csv(bronze(rows)).rows):
        by_content[tuple(row[name] for name in CONTENT_COLUMNS)].add(row["_row_hash"])
    hashes = [value for values in by_content.values() for value in values]
    assert all(len(values) == 1 for values in by_content.values())
    assert len(set(hashes)) == len(by_content)


@SOME
@given(MANY_ROWS)
def test_no_cell_survives_that_sql_would_have_to_guess_at(rows: list[Row]) -> None:
    clean = texts(clean_csv(bronze(rows)).rows)
    cells = [cell for row in clean for cell in row.values() if cell is not None]
    assert not [cell for cell in cells if cell.isspace() or cell.strip() in NOTHING]
    for row in clean:
        assert row["appt_time"] is None or row["appt_date"] is not None
        for name in ("entry_date", "appt_date"):
            assert row[name] is None or date.fromisoformat(row[name]).isoformat() == row[name]


@SOME
@given(FEW_ROWS, st.data())
def test_cleaning_two_halves_is_cleaning_the_whole(rows: list[Row], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    raw = bronze(rows)
    whole, first, second = clean_csv(raw), clean_csv(raw.iloc[:cut]), clean_csv(raw.iloc[cut:])
    assert as_rows(whole.rows) == as_rows(first.rows) + as_rows(second.rows)
    assert as_rows(whole.rejected) == as_rows(first.rejected) + as_rows(second.rejected)
    assert whole.separators == first.separators + second.separators


@settings(SOME, max_examples=40)
@given(FEW_ROWS, KINDS_OF_TEXT, st.randoms())
def test_neither_kind_nor_index_of_the_input_matters_and_it_is_not_changed(
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

IDS = st.one_of(
    st.sampled_from(["a", "b", "A", " a", "b\t", "\xa0a", "nan", "NaN", "None", None]),
    st.sampled_from(["a", "b", "c", "É", "é"]),
    NO_VALUE,
    st.text("abcDEF019 -", max_size=4),
)
LEADS = st.lists(
    st.fixed_dictionaries(
        {
            "lead_UUID": IDS,
            "phone_hash": IDS,
            "email_hash": IDS,
            "_extraction_date": st.sampled_from(["2024-11-01", "2024-11-02"]),
        }
    ),
    max_size=14,
)
LEAD_COLUMNS = ["lead_UUID", "phone_hash", "email_hash", "_extraction_date"]


def leads(rows: list[Row], kind: object = TEXT) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=LEAD_COLUMNS, dtype=kind)


def plainly_clean_leads(raw: list[Row]) -> tuple[list[Row], dict[str, int]]:
    kept: list[Row] = []
    missing_id = duplicates = 0
    for lead in raw:
        if any(lead[name] is None or lead[name].strip() in NOTHING for name in LEAD_COLUMNS[:3]):
            missing_id += 1
            continue
        clean = {
            "lead_uuid": lead["lead_UUID"],
            "phone_hash": lead["phone_hash"].strip().lower(),
            "email_hash": lead["email_hash"].strip().lower(),
            "_extraction_date": lead["_extraction_date"],
        }
        if any(all(clean[name] == earlier[name] for name in list(clean)[:3]) for earlier in kept):
            duplicates += 1
            continue
        kept.append(clean)

    return kept, {"missing_id": missing_id, "duplicates": duplicates}


@MANY
@given(LEADS)
def test_every_lead_becomes_what_the_rules_say_and_the_report_counts_right(rows: list[Row]) -> None:
    clean = clean_parquet(leads(rows))
    expected_rows, expected_report = plainly_clean_leads(rows)
    assert as_rows(clean.rows) == expected_rows
    assert clean.report._asdict() == expected_report
    assert len(rows) == len(clean.rows) + clean.report.missing_id + clean.report.duplicates


@settings(SOME, max_examples=40)
@given(LEADS, KINDS_OF_TEXT)
def test_neither_kind_nor_index_of_the_leads_matters_and_they_are_not_changed(rows: list[Row], kind: object) -> None:
    raw = leads(rows, kind).set_axis([0] * len(rows), axis="index")
    before = raw.copy(deep=True)
    clean, expected = clean_parquet(raw), clean_parquet(leads(rows))
    assert_frame_equal(clean.rows, expected.rows)
    assert clean.report == expected.report
    assert_frame_equal(raw, before)


@SOME
@given(LEADS)
def test_clean_leads_stay_as_they_are(rows: list[Row]) -> None:
    clean = clean_parquet(leads([row for row in rows if "nan" not in str(row).lower()])).rows
    again = clean_parquet(clean.rename(columns={"lead_uuid": "lead_UUID"}))
    assert_frame_equal(again.rows, clean)
    assert (again.report.missing_id, again.report.duplicates) == (0, 0)
