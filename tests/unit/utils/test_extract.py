"""S3 objects → text frames: what is in the file is what is in the cells, and every line is accounted for."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from pandas.testing import assert_frame_equal

from etl.utils.columns import BRONZE_COLUMNS, OPTIONAL_COLUMNS
from etl.utils.csv_reader import CsvText, RejectedLine, read_csv_text
from etl.utils.day import Day
from etl.utils.errors import DataRefusedError, SourceError
from etl.utils.extract import extract_all_csv, extract_parquet, minimal_clean_csv, read_snapshot
from etl.utils.frames import TEXT
from etl.utils.s3_source import SnapshotFile, SourceObject, discover_snapshots, download, find_leads
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

STEADY = settings(deadline=None, derandomize=True, database=None)
TODAY = date(2024, 11, 1)


def rows_of(text: CsvText) -> list[tuple[str | None, ...]]:
    return list(zip(*(column.to_pylist() for column in text.table.columns), strict=True))


# --- CSV bytes → text, with or without quotes in the file -------------------------------------------------------------

Read = Callable[[str], CsvText]


@pytest.fixture(params=["without quotes", "with quotes"])
def read(request: pytest.FixtureRequest) -> Read:
    """Read a file whose header starts with `a`: as it is, and with that `a` in quotes, so that other code reads it."""

    def read(content: str) -> CsvText:
        assert content.startswith("a")
        return read_csv_text((content if request.param == "without quotes" else f'"a"{content[1:]}').encode())

    return read


def test_cells_are_text_exactly_as_they_stand_in_the_file(read: Read) -> None:
    cells = ("02139", "NA", "nan", "NULL", "True", "1e3", "  Reno  ", "01/02/2023  5:30PM", "'", "Ñuñoa", "\U0001f3e0")
    for cell in cells:
        assert rows_of(read(f"a,b\n{cell},{cell}\n")) == [(cell, cell)]


def test_an_empty_cell_is_null_and_a_blank_one_is_text(read: Read) -> None:
    assert rows_of(read("a,b,c\n,x,\n,,\n , ,\t\n")) == [(None, "x", None), (None, None, None), (" ", " ", "\t")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["\n", ""])
def test_lines_may_end_in_any_way_and_the_last_in_none(read: Read, line_end: str, last: str) -> None:
    text = read(line_end.join(["a,b", "1,2", "3,4"]) + last.replace("\n", line_end))
    assert text.table.column_names == ["a", "b"]
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.lines.to_pylist() == [2, 3]
    assert text.rejected == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_with_another_number_of_fields_are_rejected_with_number_and_text(read: Read, line_end: str) -> None:
    text = read(line_end.join(["a,b", "1,2", "too few", "3,4", "too,many,é", ",,", "5,6", "last"]))
    assert rows_of(text) == [("1", "2"), ("3", "4"), ("5", "6")]
    assert text.lines.to_pylist() == [2, 4, 7]
    assert text.rejected == [
        RejectedLine(3, "too few fields: 1 instead of 2", "too few"),
        RejectedLine(5, "too many fields: 3 instead of 2", "too,many,é"),
        RejectedLine(6, "too many fields: 3 instead of 2", ",,"),
        RejectedLine(8, "too few fields: 1 instead of 2", "last"),
    ]


def test_a_file_may_hold_ragged_lines_alone(read: Read) -> None:
    text = read("a,b\n1\n2\n")
    assert text.table.schema == pa.schema({"a": pa.string(), "b": pa.string()})
    assert rows_of(text) == []
    assert [line.line for line in text.rejected] == [2, 3]


def test_empty_lines_are_no_records_but_count_as_lines(read: Read) -> None:
    text = read("a,b\n\n1,2\r\n\r\n\r\n3,4\r\rx\n\n")
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.lines.to_pylist() == [3, 6]
    assert [(line.line, line.text) for line in text.rejected] == [(8, "x")]


def test_empty_lines_may_come_before_the_header() -> None:
    text = read_csv_text(b"\r\n\na,b\n1,2\n")
    assert text.table.column_names == ["a", "b"]
    assert text.lines.to_pylist() == [4]


def test_only_line_ends_end_a_line(read: Read) -> None:
    cell = "x\v\f\x1c\x1d\x1e\x85\u2028\u2029y"
    assert rows_of(read(f"a,b\n{cell},1\n")) == [(cell, "1")]


def test_a_file_of_one_column_is_read(read: Read) -> None:
    text = read("a\n1\n2\n\n3,4\n")
    assert rows_of(text) == [("1",), ("2",)]
    assert [line.line for line in text.rejected] == [5]


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\r\n\r\n"])
def test_a_header_alone_gives_columns_without_rows(read: Read, content: str) -> None:
    text = read(content)
    assert text.table.schema == pa.schema({"a": pa.string(), "b": pa.string()})
    assert (text.table.num_rows, text.rejected, len(text.lines)) == (0, [], 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_gives_neither_columns_nor_rows(content: bytes) -> None:
    text = read_csv_text(content)
    assert (text.table.column_names, text.table.num_rows, text.rejected) == ([], 0, [])


def test_a_cell_may_be_as_long_as_a_megabyte(read: Read) -> None:
    cell = "x" * 2**20
    assert rows_of(read(f"a,b\n1,{cell}\n{cell},2\n")) == [("1", cell), (cell, "2")]


def test_columns_of_the_same_name_stay_apart(read: Read) -> None:
    text = read("a,b,b\n1,2,3\n")
    assert text.table.column_names == ["a", "b", "b"]
    assert rows_of(text) == [("1", "2", "3")]


# --- quotes -----------------------------------------------------------------------------------------------------------


def test_quoted_cells_may_hold_line_ends_delimiters_and_quotes() -> None:
    text = read_csv_text(b'"a ""x""","b,c"\r\n"1\r\n2","3,""4"""\r\n"","NA"\r\n5,"\n"\r\n')
    assert text.table.column_names == ['a "x"', "b,c"]
    assert rows_of(text) == [("1\r\n2", '3,"4"'), (None, "NA"), ("5", "\n")]


def test_line_numbers_are_those_on_which_records_start() -> None:
    text = read_csv_text(b'a,b\n1,"x\n\ny"\n2,z\n3\n"\r\n",4\n5,6\n')
    assert text.lines.to_pylist() == [2, 5, 7, 9]
    assert [(line.line, line.text) for line in text.rejected] == [(6, "3")]


def test_a_rejected_record_of_several_lines_keeps_its_whole_text() -> None:
    text = read_csv_text(b'a,b\n1,2\n"x\ny",2,3\n4,5\n')
    assert text.rejected == [RejectedLine(3, "too many fields: 3 instead of 2", '"x\ny",2,3')]
    assert text.lines.to_pylist() == [2, 5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('5" pipe,2', "quote inside an unquoted field"),
        ('"5" pipe,2', "text after a closing quote"),
        ('1,x"', "quote inside an unquoted field"),
        ('1,"2"3', "text after a closing quote"),
        ('"1" ,2', "text after a closing quote"),
        ('1, "2"', "quote inside an unquoted field"),
    ],
)
def test_a_quote_where_none_may_stand_costs_its_own_line_alone(line: str, reason: str) -> None:
    text = read_csv_text(f'a,b\r\n1,"2"\r\n{line}\r\n3,4\r\n'.encode())
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.rejected == [RejectedLine(3, reason, line)]


@given(
    st.lists(st.lists(st.text("ab 1", min_size=1, max_size=3), min_size=1, max_size=4), min_size=1, max_size=8),
    st.data(),
)
@settings(STEADY, max_examples=50)
def test_one_quote_too_many_makes_no_row_wrong_and_loses_no_line(records: list[list[str]], data: st.DataObject) -> None:
    lines = [",".join(record) for record in records]
    victim = data.draw(st.integers(0, len(lines) - 1))
    position = data.draw(st.integers(0, len(lines[victim])))
    quoted = lines[victim][:position] + '"' + lines[victim][position:]
    good = read_csv_text("\n".join(["a,b", *lines]).encode())
    bad = read_csv_text("\n".join(["a,b", *lines[:victim], quoted, *lines[victim + 1 :]]).encode())
    expected = {
        line: row for line, row in zip(good.lines.to_pylist(), rows_of(good), strict=True) if line != victim + 2
    }
    accepted = dict(zip(bad.lines.to_pylist(), rows_of(bad), strict=True))
    assert accepted.items() <= expected.items()
    assert [line.text for line in bad.rejected if line.line == victim + 2] == [quoted]
    assert len(bad.rejected) + len(accepted) == len(lines)


# --- NUL bytes and encodings ------------------------------------------------------------------------------------------


def test_a_record_with_a_nul_byte_is_rejected() -> None:
    text = read_csv_text(b'a,b\n1,2\n3,\x004\n"\x00",5\n6\x00\n7,8\n')
    assert rows_of(text) == [("1", "2"), ("7", "8")]
    assert [(line.line, line.reason) for line in text.rejected] == [(3, "NUL byte"), (4, "NUL byte"), (5, "NUL byte")]
    assert text.rejected[0].text == "3,\x004"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("a,b\nÑuñoa,“x”\n".encode(), "utf-8"),
        (b"\xef\xbb\xbf" + "a,b\nÑuñoa,“x”\n".encode(), "utf-8"),
        ("a,b\nÑuñoa,“x”\n".encode("utf-16"), "utf-16"),
        (b"\xff\xfe" + "a,b\nÑuñoa,“x”\n".encode("utf-16-le"), "utf-16"),
        (b"\xfe\xff" + "a,b\nÑuñoa,“x”\n".encode("utf-16-be"), "utf-16"),
        ("a,b\nÑuñoa,“x”\n".encode("cp1252"), "cp1252"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "utf-16-le", "utf-16-be", "cp1252"],
)
def test_the_encoding_is_told_by_the_bytes(content: bytes, encoding: str) -> None:
    text = read_csv_text(content)
    assert text.table.column_names == ["a", "b"]
    assert rows_of(text) == [("Ñuñoa", "“x”")]
    assert text.encoding == encoding


def test_bytes_that_cp1252_does_not_assign_stay_control_characters() -> None:
    text = read_csv_text(b"a,b\n\x81,\xe9\n")
    assert rows_of(text) == [("\x81", "é")]
    assert text.encoding == "cp1252"


def test_a_byte_order_mark_before_a_quoted_name_is_no_part_of_it() -> None:
    assert read_csv_text(b'\xef\xbb\xbf"a",b\n1,2\n').table.column_names == ["a", "b"]


# --- CSV in general ---------------------------------------------------------------------------------------------------

CELL_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
TRICKY_TEXT = st.text("a1 \",;\r\n'\t\\", max_size=6)
CELL_STRATEGY = st.one_of(CELL_TEXT, TRICKY_TEXT, st.sampled_from(["", "NA", "nan", "02139", '"', '""', "\n"]))
LINE_END = re.compile(r"\r\n|\r|\n")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """A header of any names, and rows of as many cells."""
    width = draw(st.integers(1, 4))
    header = draw(st.lists(CELL_STRATEGY.filter(bool), min_size=width, max_size=width, unique=True))
    rows = draw(st.lists(st.lists(CELL_STRATEGY, min_size=width, max_size=width), max_size=6))
    return header, rows


@given(
    tables(),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
@settings(STEADY, max_examples=250)
def test_what_the_csv_module_writes_is_read_back(
    table: tuple[list[str], list[list[str]]], quoting: Any, line_end: str, ends_in_line_end: bool
) -> None:
    header, rows = table
    assume(not header[0].startswith("\ufeff"))  # at the start of a file it is a byte order mark
    if line_end != "\r\n" and any(LINE_END.search(cell) for record in (header, *rows) for cell in record):
        quoting = csv.QUOTE_ALL  # left to itself, the module quotes no line end but its own
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, lineterminator=line_end)
    lines = []
    for record in (header, *rows):
        lines.append(1 + len(LINE_END.findall(file.getvalue())))
        writer.writerow(record)
    content = file.getvalue() if ends_in_line_end else file.getvalue().removesuffix(line_end)

    text = read_csv_text(content.encode())
    assert text.table.column_names == header
    assert rows_of(text) == [tuple(cell or None for cell in row) for row in rows]
    assert text.lines.to_pylist() == lines[1:]
    assert text.rejected == []
    assert set(text.table.schema.types) == {pa.string()}


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["", "1", "x y", "é", "NA"]), min_size=1, max_size=4).filter(
                lambda cells: cells != [""]
            ),
            st.sampled_from(["\n", "\r\n", "\r"]),
        ),
        max_size=8,
    )
)
@settings(STEADY, max_examples=100)
def test_a_file_without_quotes_is_read_as_if_it_had_some(records: list[tuple[list[str], str]]) -> None:
    body = "".join(",".join(cells) + line_end for cells, line_end in records)
    without, with_quotes = read_csv_text(f"a,b\n{body}".encode()), read_csv_text(f'"a",b\n{body}'.encode())
    assert without.table.equals(with_quotes.table)
    assert without.lines.equals(with_quotes.lines)
    assert without.rejected == with_quotes.rejected
    assert without.table.num_rows + len(without.rejected) == len(records)


@given(
    st.lists(
        st.one_of(
            st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"a", b"a,b\n", b"1,2\r\n", "é".encode()]),
            st.sampled_from([b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\xff\xfe", b"\x81", b"\xd8\x00"]),
            st.binary(max_size=3),
        ),
        max_size=25,
    ).map(b"".join)
)
@settings(STEADY, max_examples=250)
def test_no_content_makes_reading_fail_and_every_record_has_a_line_of_its_own(content: bytes) -> None:
    text = read_csv_text(content)
    lines = [*text.lines.to_pylist(), *(line.line for line in text.rejected)]
    assert text.table.num_rows == len(text.lines)
    assert len(set(lines)) == len(lines)
    assert text.lines.to_pylist() == sorted(text.lines.to_pylist())
    assert all(number >= 1 for number in lines)


# --- text table → bronze frame ----------------------------------------------------------------------------------------

FILE = SnapshotFile("leads", "SFTP/data_6.csv", "etag", 1, Day.of_file(6, date(2024, 10, 1)))

BEFORE_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"
FROM_11 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName"
HEADERS = {
    "1-8": BEFORE_9,
    "9-10": "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status",
    "11-12": FROM_11,
    "13-22": f"{FROM_11},location",
}
"""By the numbers of the real files that have it."""
HEADER = BEFORE_9.split(",")
CELLS = {
    "ENTRYDATE": "02/05/2023",
    "LEADNUMBER": "0289764",
    "email_hash": "3b7c33e8",
    "phone_hash": "6e534544",
    "CITY": "Bremerton     ",
    "CityName": "Bremerton     ",
    "STATE": "NA",
    "ZIP": "02139",
    "Appt Date": "12/13/2022  1:00PM",
    "Set": "True",
    "Demo": "0",
    "Dispo": "nan",
    "Job Status": "",
    "location": " | NV",
}


def snapshot_bytes(header: Sequence[str], *rows: dict[str, str]) -> bytes:
    """A CSV file with these columns; a row names the cells that matter."""
    lines = [header, *([(CELLS | row).get(name, "") for name in header] for row in rows)]
    return "\n".join(",".join(line) for line in lines).encode()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_files_of_every_layout_give_the_bronze_columns_with_lineage(header: str) -> None:
    names = header.split(",")
    snapshot = read_snapshot(snapshot_bytes(names, {}, {"ZIP": ""}), FILE, TODAY)
    expected = pd.DataFrame(
        {
            "ENTRYDATE": "02/05/2023",
            "LEADNUMBER": "0289764",
            "email_hash": "3b7c33e8",
            "phone_hash": "6e534544",
            "CITY": "Bremerton     ",
            "STATE": "NA",
            "ZIP": ["02139", None],
            "APPT_DATE": "12/13/2022  1:00PM",
            "Set": "True",
            "Demo": "0",
            "Dispo": "nan",
            "JOB_STATUS": None,
            "location": " | NV" if "location" in names else None,
            "_extraction_date": "2024-11-01",
            "_partition_date": "2024-10-06",
            "_source_file": "SFTP/data_6.csv",
            "_source_row": ["2", "3"],
            "_extra": None,
        },
        dtype=TEXT,
    ).astype({"_source_row": pd.ArrowDtype(pa.int64())})
    assert_frame_equal(snapshot.rows[expected.columns], expected)
    assert snapshot.rows.drop(columns=expected.columns).isna().all(axis=None), "columns added to the CRM since"
    assert snapshot.rejected == []


def test_unknown_columns_are_kept_in_extra_and_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    raw = snapshot_bytes([*HEADER, "Rep", "Lead Source"], {"Rep": "Jo", "Lead Source": "A\\B/é"}, {})
    with caplog.at_level(logging.WARNING):
        rows = read_snapshot(raw, FILE, TODAY).rows
    assert [json.loads(extra) for extra in rows["_extra"]] == [
        {"Rep": "Jo", "Lead Source": "A\\B/é"},
        {"Rep": None, "Lead Source": None},
    ]
    assert "SFTP/data_6.csv" in caplog.text
    assert "Rep, Lead Source" in caplog.text


def test_the_lines_of_rows_are_right_beside_rejected_ones() -> None:
    raw = snapshot_bytes(HEADER, {}, {"CITY": "Reno,NV"}, {})
    snapshot = read_snapshot(raw, FILE, TODAY)
    assert list(snapshot.rows["_source_row"]) == [2, 4]
    assert [(line.line, line.reason) for line in snapshot.rejected] == [(3, "too many fields: 13 instead of 12")]


def test_a_file_that_is_not_utf_8_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    raw = snapshot_bytes(HEADER, {"CITY": "Cañon"}).decode().encode("cp1252")
    with caplog.at_level(logging.WARNING):
        assert list(read_snapshot(raw, FILE, TODAY).rows["CITY"]) == ["Cañon"]
    assert "SFTP/data_6.csv is not UTF-8: read as cp1252" in caplog.text


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\xef\xbb\xbf", ",".join(HEADER).encode()], ids=repr)
def test_a_file_that_is_empty_or_all_header_gives_no_rows_and_is_not_refused(raw: bytes) -> None:
    snapshot = read_snapshot(raw, FILE, TODAY)
    assert_frame_equal(snapshot.rows, read_snapshot(snapshot_bytes(HEADER, {}), FILE, TODAY).rows.iloc[:0])
    assert snapshot.rejected == []


def test_every_missing_column_is_named_with_the_file() -> None:
    raw = snapshot_bytes([name for name in HEADER if name not in ("ZIP", "Appt Date")], {})
    with pytest.raises(
        DataRefusedError, match=r"s3://leads/SFTP/data_6\.csv: .*missing required columns: ZIP, APPT_DATE"
    ) as refusal:
        read_snapshot(raw, FILE, TODAY)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ([*HEADER, "ZIP"], "ZIP"),
        ([*HEADER, "CityName"], "CITY"),
        ([*HEADER, "APPT_DATE", "JOB_STATUS"], "APPT_DATE, JOB_STATUS"),
        ([*HEADER, "location", "location"], "location"),
        ([*HEADER, "Rep", "Rep"], "Rep"),
    ],
)
def test_every_doubled_column_is_named_with_the_file(header: list[str], named: str) -> None:
    with pytest.raises(DataRefusedError, match=rf"s3://leads/SFTP/data_6\.csv: duplicate columns: {named}\. "):
        read_snapshot(snapshot_bytes(header, {}), FILE, TODAY)


def test_a_header_that_is_both_short_and_doubled_is_told_all_at_once() -> None:
    with pytest.raises(DataRefusedError, match=r"missing required columns: ZIP; duplicate columns: Set\."):
        read_snapshot(snapshot_bytes([*(name for name in HEADER if name != "ZIP"), "Set"], {}), FILE, TODAY)


@pytest.mark.parametrize(
    "raw", [snapshot_bytes(HEADER, {}).split(b"\n")[1], b'"' + ",".join(HEADER).encode(), b"\0\0\0"], ids=repr
)
def test_a_file_without_a_header_is_refused(raw: bytes) -> None:
    with pytest.raises(
        DataRefusedError, match=r"s3://leads/SFTP/data_6\.csv: missing required columns: ENTRYDATE, LEAD"
    ):
        read_snapshot(raw, FILE, TODAY)


def test_minimal_cleaning_renames_adds_location_and_does_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame(
        {"CityName": [" Reno ", "nan"], "Appt Date": ["nu", pd.NA], "Job Status": ["", "x"], "Rep": ["1", "2"]},
        index=[7, 7],
        dtype=TEXT,
    )
    before = frame.copy(deep=True)
    with caplog.at_level(logging.DEBUG):
        cleaned = minimal_clean_csv(frame)
    expected = pd.DataFrame(
        {
            "CITY": [" Reno ", "nan"],
            "APPT_DATE": ["nu", pd.NA],
            "JOB_STATUS": ["", "x"],
            "Rep": ["1", "2"],
            **{name: [pd.NA, pd.NA] for name in sorted(OPTIONAL_COLUMNS)},
        },
        index=[7, 7],
        dtype=TEXT,
    )
    assert_frame_equal(cleaned, expected)
    assert_frame_equal(frame, before)
    for change in ("CityName → CITY", "Appt Date → APPT_DATE", "Job Status → JOB_STATUS", "location"):
        assert change in caplog.text


def test_minimal_cleaning_leaves_a_frame_with_bronze_names_as_it_is() -> None:
    frame = pd.DataFrame([["x"] * len(BRONZE_COLUMNS)], columns=list(BRONZE_COLUMNS)[::-1], dtype=TEXT)
    assert_frame_equal(minimal_clean_csv(frame), frame)


# --- which objects there are ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3_of_all_tests() -> Iterator[S3Client]:
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def s3(s3_of_all_tests: S3Client) -> Iterator[S3Client]:
    """An S3 with the empty bucket `leads` and no other."""
    client = s3_of_all_tests
    client.create_bucket(Bucket="leads")
    yield client
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for item in page.get("Contents", []):
                client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        client.delete_bucket(Bucket=bucket["Name"])


def settings_of(**different: Any) -> Settings:
    given_settings: dict[str, Any] = {
        "postgres_user": "u",
        "postgres_password": "p",
        "postgres_db": "d",
        "postgres_host": "h",
        "s3_bucket_name": "leads",
        "s3_sftp_bucket": None,
        "s3_parquet_bucket": None,
        "s3_sftp_files_prefix": "SFTP/data_",
        "s3_parquet_file": "parquet/leads.parquet",
        "partition_start_date": date(2024, 10, 1),
    }
    return Settings(**(given_settings | different))


def put(s3: S3Client, *keys: str, bucket: str = "leads", body: bytes = b"x") -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def discovered(s3: S3Client, **different: Any) -> list[tuple[str, int, str]]:
    return [
        (file.key, file.day.number, str(file.day)) for file in discover_snapshots(s3, settings_of(**different)).files
    ]


def test_snapshots_come_in_numeric_order_whatever_their_zeros_and_gaps(s3: S3Client) -> None:
    put(s3, "SFTP/data_10.csv", "SFTP/data_9.csv", "SFTP/data_02.csv", "SFTP/data_400.csv", "SFTP/data_001.csv")
    assert discovered(s3) == [
        ("SFTP/data_001.csv", 1, "2024-10-01"),
        ("SFTP/data_02.csv", 2, "2024-10-02"),
        ("SFTP/data_9.csv", 9, "2024-10-09"),
        ("SFTP/data_10.csv", 10, "2024-10-10"),
        ("SFTP/data_400.csv", 400, "2025-11-04"),
    ]


def test_a_snapshot_is_known_by_bucket_key_etag_and_size(s3: S3Client) -> None:
    etag = s3.put_object(Bucket="leads", Key="SFTP/data_1.csv", Body=b"abc")["ETag"]
    [file] = discover_snapshots(s3, settings_of()).files
    assert (file.bucket, file.key, file.etag, file.size) == ("leads", "SFTP/data_1.csv", etag.strip('"'), 3)


def test_files_beyond_the_first_page_of_the_listing_are_found(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # a page of S3 itself holds 1000 keys
    put(s3, *(f"SFTP/data_{number}.csv" for number in range(1, 36)))
    assert len(s3.list_objects_v2(Bucket="leads")["Contents"]) == 10
    assert [number for _, number, _ in discovered(s3)] == list(range(1, 36))


def test_keys_that_are_no_snapshots_are_left_out_with_a_warning(s3: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    foreign = [
        "SFTP/data_0.csv",
        "SFTP/data_1.csv.bak",
        "SFTP/data_1.CSV",
        "SFTP/data_.csv",
        "SFTP/data_-1.csv",
        "SFTP/data_x.csv",
        "SFTP/data_1x.csv",
        "SFTP/data_2024/2.csv",
        "SFTP/data_\u0663.csv",
    ]
    put(s3, "SFTP/data_7.csv", "SFTP/readme.txt", "parquet/leads.parquet", *foreign)
    with caplog.at_level(logging.WARNING):
        assert discovered(s3) == [("SFTP/data_7.csv", 7, "2024-10-07")]
    assert sorted(record.getMessage().split(" ignored")[0] for record in caplog.records) == sorted(
        f"s3://leads/{key}" for key in foreign
    )


def test_the_prefix_is_taken_literally(s3: S3Client) -> None:
    put(s3, "a.b(c/1.csv", "a.b(c/2.csv", "axb(c/3.csv")
    assert [number for _, number, _ in discovered(s3, s3_sftp_files_prefix="a.b(c/")] == [1, 2]


def test_two_files_of_the_same_number_are_refused_by_name(s3: S3Client) -> None:
    put(s3, "SFTP/data_2.csv", "SFTP/data_1.csv", "SFTP/data_01.csv")
    found = discover_snapshots(s3, settings_of())
    assert [file.key for file in found.files] == ["SFTP/data_2.csv"], "the others are none the worse for it"
    (refused,) = found.refused
    assert re.search(r"SFTP/data_01\.csv and SFTP/data_1\.csv .* file number, 1", refused.message)
    assert refused.hint


def test_a_number_for_which_there_is_no_day_is_refused_by_name(s3: S3Client) -> None:
    keys = [f"SFTP/data_{number}.csv" for number in ("9999999", "9" * 30)]
    put(s3, "SFTP/data_1.csv", *keys)
    found = discover_snapshots(s3, settings_of())
    assert [file.key for file in found.files] == ["SFTP/data_1.csv"]
    for key, refused in zip(keys, found.refused, strict=True):
        assert key in refused.message
        assert "PARTITION_START_DATE" in str(refused.hint)


def test_when_no_file_fits_the_error_names_the_prefix_and_says_what_to_check(s3: S3Client) -> None:
    put(s3, "SFTP/readme.txt")
    with pytest.raises(SourceError, match=r"s3://leads/SFTP/data_\*\.csv") as error:
        discover_snapshots(s3, settings_of())
    assert "S3_SFTP_FILES_PREFIX" in str(error.value.hint)


def test_a_bucket_that_is_not_there_is_named(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://elsewhere/SFTP/data_: S3 answered NoSuchBucket") as error:
        discover_snapshots(s3, settings_of(s3_bucket_name="elsewhere"))
    assert "S3_BUCKET_NAME" in str(error.value.hint)


@pytest.mark.parametrize("override", ["other", "other/", "other/parquet", "other/a/b"])
def test_what_stands_before_the_first_slash_overrides_the_bucket(s3: S3Client, override: str) -> None:
    s3.create_bucket(Bucket="other")
    put(s3, "SFTP/data_1.csv", "parquet/leads.parquet", bucket="other")
    put(s3, "SFTP/data_2.csv", "parquet/leads.parquet")
    both = {"s3_sftp_bucket": override, "s3_parquet_bucket": override}
    assert [str(file) for file in discover_snapshots(s3, settings_of(**both)).files] == ["s3://other/SFTP/data_1.csv"]
    assert str(find_leads(s3, settings_of(**both))) == "s3://other/parquet/leads.parquet"

    only_parquet = settings_of(s3_parquet_bucket=override)
    assert [str(file) for file in discover_snapshots(s3, only_parquet).files] == ["s3://leads/SFTP/data_2.csv"]
    assert find_leads(s3, only_parquet).bucket == "other"


def test_an_object_that_changed_since_it_was_listed_is_not_read(s3: S3Client) -> None:
    put(s3, "SFTP/data_1.csv", body=b"old")
    [file] = discover_snapshots(s3, settings_of()).files
    assert download(s3, file) == b"old"
    put(s3, "SFTP/data_1.csv", body=b"new")
    with pytest.raises(SourceError, match=r"s3://leads/SFTP/data_1\.csv") as error:
        download(s3, file)
    assert "rerun" in str(error.value.hint)


def test_all_snapshots_as_one_frame(s3: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    put(s3, "SFTP/data_10.csv", body=snapshot_bytes([*HEADER, "Rep"], {"LEADNUMBER": "10", "Rep": "Jo"}))
    put(
        s3,
        "SFTP/data_2.csv",
        body=snapshot_bytes(HEADER, {"LEADNUMBER": "2"}, {"CITY": "Reno,NV"}, {"LEADNUMBER": "3"}),
    )
    put(s3, "SFTP/data_3.csv", body=b"")
    with caplog.at_level(logging.WARNING):
        frame = extract_all_csv(s3, settings_of(), TODAY)
    assert list(frame["LEADNUMBER"]) == ["2", "3", "10"]
    assert list(frame["_source_file"]) == ["SFTP/data_2.csv", "SFTP/data_2.csv", "SFTP/data_10.csv"]
    assert list(frame["_partition_date"]) == ["2024-10-02", "2024-10-02", "2024-10-10"]
    assert list(frame["_source_row"]) == [2, 4, 2]
    assert list(frame.index) == [0, 1, 2]
    assert "SFTP/data_2.csv line 3 rejected: too many fields" in caplog.text


# --- the leads --------------------------------------------------------------------------------------------------------

LEADS_KEY = "parquet/leads.parquet"
LEADS = {"lead_UUID": ["a", None], "phone_hash": [" P ", "nan"], "email_hash": ["e", ""]}


def parquet_bytes(**columns: pa.Array | list[str | None]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def extracted(s3: S3Client, body: bytes) -> pd.DataFrame:
    put(s3, LEADS_KEY, body=body)
    return extract_parquet(s3, find_leads(s3, settings_of()), TODAY)


def test_leads_come_untransformed_with_the_date_of_extraction(s3: S3Client) -> None:
    expected = pd.DataFrame({**LEADS, "_extraction_date": "2024-11-01"}, dtype=TEXT)
    assert_frame_equal(extracted(s3, parquet_bytes(**LEADS)), expected)


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=["large", "view", "dictionary"],
)
def test_leads_may_be_any_kind_of_text_in_columns_of_any_order(s3: S3Client, kind: pa.DataType) -> None:
    columns = {name: pa.array(cells).cast(kind) for name, cells in reversed(LEADS.items())}
    expected = pd.DataFrame({**LEADS, "_extraction_date": "2024-11-01"}, dtype=TEXT)
    assert_frame_equal(extracted(s3, parquet_bytes(created_at=pa.array([1, 2]), **columns)), expected)


def test_a_parquet_with_a_column_without_any_value_is_refused(s3: S3Client) -> None:
    columns = {name: pa.array(cells) for name, cells in LEADS.items()} | {"email_hash": pa.nulls(2)}
    with pytest.raises(DataRefusedError, match="columns without any value: email_hash"):
        extracted(s3, parquet_bytes(**columns))


def test_a_parquet_without_any_lead_is_refused(s3: S3Client) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet has no rows"):
        extracted(s3, parquet_bytes(**{name: pa.array([], pa.string()) for name in LEADS}))


@pytest.mark.parametrize("cells", [pa.array([1, 2]), pa.array([b"a", b"b"]), pa.array([1, 1]).dictionary_encode()])
def test_leads_whose_column_is_no_text_are_refused_by_name(s3: S3Client, cells: pa.Array) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet: column phone_hash is .*, not text"):
        extracted(s3, parquet_bytes(**LEADS | {"phone_hash": cells}))


def test_every_column_that_the_leads_lack_is_named(s3: S3Client) -> None:
    body = parquet_bytes(lead_uuid=["a"], phone_hash=["p"])
    with pytest.raises(DataRefusedError, match=r"missing columns: lead_UUID, email_hash\. Columns: lead_uuid"):
        extracted(s3, body)


@pytest.mark.parametrize(
    "body", [b"", b"lead_UUID,phone_hash\n", parquet_bytes(**LEADS)[:-20]], ids=["empty", "csv", "cut"]
)
def test_leads_that_are_no_parquet_file_are_refused(s3: S3Client, body: bytes) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet cannot be read as parquet"):
        extracted(s3, body)


def test_leads_that_are_not_there_are_named_with_what_to_check(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://leads/parquet/leads\.parquet") as error:
        find_leads(s3, settings_of())
    assert "S3_PARQUET_FILE" in str(error.value.hint)


def test_leads_that_vanished_since_they_were_found_are_named(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://leads/parquet/leads\.parquet: S3 answered NoSuchKey"):
        extract_parquet(s3, SourceObject("leads", LEADS_KEY, "etag", 1), TODAY)


@pytest.mark.parametrize("commas", [",", ",,"])
def test_commas_at_the_ends_of_all_lines_are_no_columns(commas: str) -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot("".join(f"{line}{commas}\n" for line in lines).encode(), FILE, TODAY)
    assert list(snapshot.rows["LEADNUMBER"]) == ["7"]
    assert snapshot.rows["_extra"].isna().all()
    assert snapshot.rejected == []


def test_a_column_without_a_name_is_kept_under_its_number() -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f"{lines[0]},\n{lines[1]},kept\n".encode(), FILE, TODAY)
    assert [json.loads(extra) for extra in snapshot.rows["_extra"]] == [{f"column {len(HEADER) + 1}": "kept"}]


def test_names_that_differ_after_a_nul_byte_alone_keep_their_values_apart() -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f"{lines[0]},x\0y,x\0z\n{lines[1]},1,2\n".encode(), FILE, TODAY)
    assert [json.loads(extra) for extra in snapshot.rows["_extra"]] == [{"x\u2400y": "1", "x\u2400z": "2"}]
