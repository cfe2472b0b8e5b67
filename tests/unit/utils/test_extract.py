"""Read snapshots and leads from S3 into bronze frames: values stay exact, columns get bronze names."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

from etl.utils.columns import BRONZE_COLUMNS, OPTIONAL_COLUMNS
from etl.utils.day import Day
from etl.utils.errors import DataRefusedError
from etl.utils.extract import extract_all_csv, minimal_clean_csv, read_snapshot, read_snapshot_chunks
from etl.utils.frames import TEXT
from etl.utils.s3_source import SnapshotFile

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
from mock_s3 import make_settings, put_objects

TODAY = date(2024, 11, 1)

# --- CSV to bronze frame ----------------------------------------------------------------------------------------------

SNAPSHOT_FILE = SnapshotFile("leads", "SFTP/data_6.csv", "etag", 1, Day.of_file(6, date(2024, 10, 1)))

BEFORE_9 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status"
FROM_11 = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName"
HEADERS = {
    "1-8": BEFORE_9,
    "9-10": "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,CITY,ZIP,Appt Date,Demo,Set,Dispo,Job Status",
    "11-12": FROM_11,
    "13-22": f"{FROM_11},location",
}
"""Numbers of the real files → their header."""
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
    """Build a CSV file with these columns; a row names the cells that matter."""
    lines = [header, *([(CELLS | row).get(name, "") for name in header] for row in rows)]
    return "\n".join(",".join(line) for line in lines).encode()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_every_file_layout_gives_bronze_columns_with_lineage(header: str) -> None:
    names = header.split(",")
    snapshot = read_snapshot(snapshot_bytes(names, {}, {"ZIP": ""}), SNAPSHOT_FILE, TODAY)
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


def test_unknown_columns_are_kept_in_extra_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    raw = snapshot_bytes([*HEADER, "One", "Not known"], {"One": "Jo", "Not known": "A\\B/é"}, {})
    with caplog.at_level(logging.WARNING):
        rows = read_snapshot(raw, SNAPSHOT_FILE, TODAY).rows
    assert [json.loads(extra) for extra in rows["_extra"]] == [
        {"One": "Jo", "Not known": "A\\B/é"},
        {"One": None, "Not known": None},
    ]
    assert "SFTP/data_6.csv" in caplog.text
    assert "One, Not known" in caplog.text


def test_nameless_column_that_a_later_chunk_fills_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    header, row = (line.decode() for line in snapshot_bytes(HEADER, {}).splitlines())
    raw = "\n".join([f"{header},", *[f"{row},"] * 50, f"{row},Jo", f"{row},Jo"]).encode()
    with caplog.at_level(logging.WARNING):
        chunks = list(read_snapshot_chunks(raw, SNAPSHOT_FILE, TODAY, 1000))
    assert len(chunks) > 2
    assert [json.loads(extra) for extra in chunks[-1].rows["_extra"].tail(1)] == [{"column 13": "Jo"}]
    assert [message.partition("_extra: ")[2] for message in caplog.messages] == ["column 13"]


def test_line_numbers_stay_correct_next_to_rejected_lines() -> None:
    raw = snapshot_bytes(HEADER, {}, {"CITY": "Reno,NV"}, {})
    snapshot = read_snapshot(raw, SNAPSHOT_FILE, TODAY)
    assert list(snapshot.rows["_source_row"]) == [2, 4]
    assert [(line.line, line.reason) for line in snapshot.rejected] == [(3, "too many fields: 13 instead of 12")]


def test_file_not_in_utf_8_is_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    raw = snapshot_bytes(HEADER, {"CITY": "Cañon"}).decode().encode("cp1252")
    with caplog.at_level(logging.WARNING):
        assert list(read_snapshot(raw, SNAPSHOT_FILE, TODAY).rows["CITY"]) == ["Cañon"]
    assert "SFTP/data_6.csv is not UTF-8: read as cp1252" in caplog.text
    assert "SFTP/data_6.csv: invalid UTF-8 bytes were decoded as cp1252, on 1 of its lines: 2" in caplog.text


@pytest.mark.parametrize("raw", [b"", b"\r\n", b" \n\t\r\n", b"\xef\xbb\xbf", ",".join(HEADER).encode()], ids=repr)
def test_file_without_rows_is_accepted(raw: bytes) -> None:
    snapshot = read_snapshot(raw, SNAPSHOT_FILE, TODAY)
    assert_frame_equal(snapshot.rows, read_snapshot(snapshot_bytes(HEADER, {}), SNAPSHOT_FILE, TODAY).rows.iloc[:0])
    assert snapshot.rejected == []


def test_missing_columns_and_the_file_are_named() -> None:
    raw = snapshot_bytes([name for name in HEADER if name not in ("ZIP", "Appt Date")], {})
    with pytest.raises(
        DataRefusedError, match=r"s3://leads/SFTP/data_6\.csv has missing required columns: ZIP, APPT_DATE"
    ) as refusal:
        read_snapshot(raw, SNAPSHOT_FILE, TODAY)
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
def test_duplicate_columns_and_the_file_are_named(header: list[str], named: str) -> None:
    with pytest.raises(DataRefusedError, match=rf"s3://leads/SFTP/data_6\.csv has duplicate columns: {named}\. "):
        read_snapshot(snapshot_bytes(header, {}), SNAPSHOT_FILE, TODAY)


def test_optional_column_under_a_similar_name_is_refused() -> None:
    with pytest.raises(DataRefusedError, match=r"only in case, blanks or underscores: Location\."):
        read_snapshot(snapshot_bytes([*HEADER, "Location"], {}), SNAPSHOT_FILE, TODAY)


def test_missing_and_duplicate_columns_are_named_in_one_error() -> None:
    with pytest.raises(DataRefusedError, match=r"missing required columns: ZIP; and duplicate columns: Set\."):
        read_snapshot(snapshot_bytes([*(name for name in HEADER if name != "ZIP"), "Set"], {}), SNAPSHOT_FILE, TODAY)


@pytest.mark.parametrize("raw", [snapshot_bytes(HEADER, {}).split(b"\n")[1], b"a\0bcdef"], ids=repr)
def test_file_without_header_is_refused(raw: bytes) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/SFTP/data_6\.csv: its first line is not a header, because"):
        read_snapshot(raw, SNAPSHOT_FILE, TODAY)


@pytest.mark.parametrize("line_end", ["", " ", "\x85", "\\n"])
def test_file_without_line_ends_is_refused_in_a_short_message(line_end: str) -> None:
    lines = snapshot_bytes(HEADER, *[{"ZIP": str(zip_code)} for zip_code in range(100)]).decode().splitlines()
    with pytest.raises(DataRefusedError, match="its line ends are probably missing") as refusal:
        read_snapshot(line_end.join(lines).encode(), SNAPSHOT_FILE, TODAY)
    assert len(str(refusal.value)) < 1000


def test_lines_that_are_quoted_as_a_whole_are_named() -> None:
    lines = snapshot_bytes(HEADER, {}).decode().splitlines()
    with pytest.raises(DataRefusedError, match="its lines are quoted as a whole"):
        read_snapshot("".join(f'"{line}"\n' for line in lines).encode(), SNAPSHOT_FILE, TODAY)


def test_message_lists_the_first_unknown_columns(caplog: pytest.LogCaptureFixture) -> None:
    unknown = [f"column {number}" for number in range(1, 51)]
    read_snapshot(snapshot_bytes([*HEADER, *unknown], {}), SNAPSHOT_FILE, TODAY)
    assert caplog.messages[0].endswith(", column 20, … (30 more)")


def test_column_name_with_a_stray_quote_is_missing() -> None:
    raw = ",".join(HEADER).replace("email_hash", '"email_hash').encode()
    with pytest.raises(DataRefusedError, match=r"has missing required columns: email_hash\. Header: "):
        read_snapshot(raw, SNAPSHOT_FILE, TODAY)


@pytest.mark.parametrize("line_end", ["\n", "\r"])
@pytest.mark.parametrize("has_quote_inside", [False, True])
def test_quote_that_is_not_closed_in_the_header_is_refused(line_end: str, has_quote_inside: bool) -> None:
    lines = [f'{FROM_11},"location', *[f"{'1,' * 12}Reno | NV"] * 3, f'{"1," * 12}"Reno | NV"', f"{'1,' * 12}x"]
    if has_quote_inside:
        lines[-2] = '1,2,3,4,"Reno",6,7,8,9,10,11,12,Reno | NV'
    with pytest.raises(DataRefusedError, match="a quote in its header is not closed on the same line"):
        read_snapshot(line_end.join(lines).encode(), SNAPSHOT_FILE, TODAY)


@pytest.mark.parametrize(
    ("end", "is_incomplete"),
    [
        ("10/01/2024,7,e7", True),
        ('10/01/2024,7,e7,p7,"Ren', True),
        ("10/01/2024,7,e7\n", False),
        ("Total: 10", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_file_that_ends_within_a_record_is_reported(
    caplog: pytest.LogCaptureFixture, end: str, is_incomplete: bool, encoding: str
) -> None:
    header, row = snapshot_bytes(HEADER, {"CITY": '"Reno, NV"'}).decode().splitlines()
    read_snapshot(f"{header}\n{row}\n{end}".encode(encoding), SNAPSHOT_FILE, TODAY)
    expected = [f"{SNAPSHOT_FILE} ends in the middle of line 3: it is probably incomplete"]
    assert [message for message in caplog.messages if "incomplete" in message] == expected * is_incomplete


def test_unknown_column_name_may_have_a_line_end_and_a_comma() -> None:
    header, row = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f'{header},"Notes (agent,\nsupervisor)"\n{row},x\n'.encode(), SNAPSHOT_FILE, TODAY)
    assert list(snapshot.rows["LEADNUMBER"]) == ["7"]
    names, cells = header.split(","), row.split(",")
    names[6:6], cells[6:6] = ['"Note\n(a, b, c, d, e, f, g)"'], ["x"]
    snapshot = read_snapshot(f"{','.join(names)}\n{','.join(cells)}\n".encode(), SNAPSHOT_FILE, TODAY)
    assert list(snapshot.rows["LEADNUMBER"]) == ["7"]


@pytest.mark.parametrize("blank", [" ", "\u200b", "\ufeff", " \xa0"])
def test_quoted_column_names_after_blanks_are_recognized(blank: str) -> None:
    header, row = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    names = ",".join(f'{blank}"{name}"' for name in header.split(","))
    snapshot = read_snapshot(f"{names}\n{row}\n".encode(), SNAPSHOT_FILE, TODAY)
    assert list(snapshot.rows["LEADNUMBER"]) == ["7"]


def test_minimal_cleaning_only_renames_columns_and_adds_location(caplog: pytest.LogCaptureFixture) -> None:
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


def test_minimal_cleaning_leaves_frame_with_bronze_names_unchanged() -> None:
    frame = pd.DataFrame([["x"] * len(BRONZE_COLUMNS)], columns=list(BRONZE_COLUMNS)[::-1], dtype=TEXT)
    assert_frame_equal(minimal_clean_csv(frame), frame)


@pytest.mark.parametrize("commas", [",", ",,"])
def test_trailing_commas_on_all_lines_are_ignored(commas: str) -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot("".join(f"{line}{commas}\n" for line in lines).encode(), SNAPSHOT_FILE, TODAY)
    assert list(snapshot.rows["LEADNUMBER"]) == ["7"]
    assert snapshot.rows["_extra"].isna().all()
    assert snapshot.rejected == []


def test_column_without_name_is_kept_under_its_number() -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f"{lines[0]},\n{lines[1]},kept\n".encode(), SNAPSHOT_FILE, TODAY)
    assert [json.loads(extra) for extra in snapshot.rows["_extra"]] == [{f"column {len(HEADER) + 1}": "kept"}]


@pytest.mark.parametrize("start", ["", "\n"])
@pytest.mark.parametrize("name", ['ex"tra', "ex\0tra"])
def test_header_with_a_fault_in_an_unknown_name_is_used(start: str, name: str) -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f"{start}{lines[0]},{name}\n{lines[1]},1\n".encode(), SNAPSHOT_FILE, TODAY)
    assert (len(snapshot.rows), snapshot.rejected, snapshot.records) == (1, [], 1)


def test_column_names_that_differ_only_after_a_nul_byte_keep_separate_values() -> None:
    lines = snapshot_bytes(HEADER, {"LEADNUMBER": "7"}).decode().splitlines()
    snapshot = read_snapshot(f"{lines[0]},x\0y,x\0z\n{lines[1]},1,2\n".encode(), SNAPSHOT_FILE, TODAY)
    assert [json.loads(extra) for extra in snapshot.rows["_extra"]] == [{"x\u2400y": "1", "x\u2400z": "2"}]


def test_all_snapshots_are_read_into_one_frame(s3: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    put_objects(s3, "SFTP/data_10.csv", body=snapshot_bytes([*HEADER, "Rep"], {"LEADNUMBER": "10", "Rep": "Jo"}))
    put_objects(
        s3,
        "SFTP/data_2.csv",
        body=snapshot_bytes(HEADER, {"LEADNUMBER": "2"}, {"CITY": "Reno,NV"}, {"LEADNUMBER": "3"}),
    )
    put_objects(s3, "SFTP/data_3.csv", body=b"")
    with caplog.at_level(logging.WARNING):
        frame = extract_all_csv(s3, make_settings(), TODAY)
    assert list(frame["LEADNUMBER"]) == ["2", "3", "10"]
    assert list(frame["_source_file"]) == ["SFTP/data_2.csv", "SFTP/data_2.csv", "SFTP/data_10.csv"]
    assert list(frame["_partition_date"]) == ["2024-10-02", "2024-10-02", "2024-10-10"]
    assert list(frame["_source_row"]) == [2, 4, 2]
    assert list(frame.index) == [0, 1, 2]
    assert "SFTP/data_2.csv line 3 rejected: too many fields" in caplog.text
