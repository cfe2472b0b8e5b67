"""S3 object → text frame.

A CSV file holds one row per CRM lead of that day's snapshot. Its cells arrive as text, exactly as they stand in the
file: `02139` keeps its zero and `NA` stays `NA`, because type inference once lost 19,038 ZIPs. An empty cell is NULL.
Knows boto3 and pyarrow, no database.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from etl.utils.day import Day
from etl.utils.errors import DataRefusedError, SourceError, shorten
from etl.utils.frames import TEXT, repeated, rows_as_json, text_frame
from etl.utils.utils_connection import Settings, explained_s3_errors

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = logging.getLogger(__name__)

BRONZE_NAMES = {
    "ENTRYDATE": "ENTRYDATE",
    "LEADNUMBER": "LEADNUMBER",
    "email_hash": "email_hash",
    "phone_hash": "phone_hash",
    "CITY": "CITY",
    "CityName": "CITY",
    "STATE": "STATE",
    "ZIP": "ZIP",
    "Appt Date": "APPT_DATE",
    "APPT_DATE": "APPT_DATE",
    "Set": "Set",
    "Demo": "Demo",
    "Dispo": "Dispo",
    "Job Status": "JOB_STATUS",
    "JOB_STATUS": "JOB_STATUS",
    "location": "location",
}
"""Column name in a file's header → column of bronze.csv_snapshots. A name that is not here goes into `_extra`."""

BRONZE_COLUMNS = tuple(dict.fromkeys(BRONZE_NAMES.values()))
OPTIONAL_COLUMNS = frozenset({"location"})
LEADS_COLUMNS = ("lead_UUID", "phone_hash", "email_hash")


# --- which objects there are ----------------------------------------------------------------------


@dataclass(frozen=True)
class SourceObject:
    """An S3 object in the version that was listed. The same key, ETag and size mean the same content."""

    bucket: str
    key: str
    etag: str
    size: int

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class SnapshotFile(SourceObject):
    """A daily CSV snapshot of the CRM."""

    day: Day


def discover_snapshots(client: S3Client, settings: Settings) -> list[SnapshotFile]:
    """List the CSV snapshots under S3_SFTP_FILES_PREFIX: prefix + number + `.csv`, in numeric order.

    Raises:
        SourceError: S3 cannot be read, or no key fits.
        DataRefusedError: two keys claim the same number (`data_1.csv` and `data_01.csv`), or a number has no date.
    """
    bucket, prefix = settings.csv_bucket, settings.s3_sftp_files_prefix
    numbered = re.compile(re.escape(prefix) + r"([0-9]+)\.csv")
    files: dict[int, SnapshotFile] = {}
    for listed in _list_objects(client, bucket, prefix):
        match = numbered.fullmatch(listed.key)
        number = int(match[1]) if match else 0
        if number < 1:
            log.warning("%s is left out: snapshots are called %s<number from 1>.csv", listed, prefix)
            continue
        if number in files:
            raise DataRefusedError(
                f"{files[number].key} and {listed.key} in bucket {bucket} are both file number {number}",
                hint="delete or rename one of them",
            )
        files[number] = SnapshotFile(
            listed.bucket, listed.key, listed.etag, listed.size, _day_of(listed, number, settings.partition_start_date)
        )
    if not files:
        raise SourceError(
            f"s3://{bucket}/{prefix}*.csv: no CSV file under this prefix",
            hint="check S3_SFTP_FILES_PREFIX and S3_BUCKET_NAME (or S3_SFTP_BUCKET), and that the files were uploaded",
        )
    return [files[number] for number in sorted(files)]


def _list_objects(client: S3Client, bucket: str, prefix: str) -> Iterator[SourceObject]:
    with explained_s3_errors(f"listing s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield SourceObject(bucket, item["Key"], item["ETag"].strip('"'), item["Size"])


def _day_of(listed: SourceObject, number: int, partition_start_date: date) -> Day:
    try:
        return Day.of_file(number, partition_start_date)
    except OverflowError:
        raise DataRefusedError(
            f"{listed}: {partition_start_date} + {shorten(number - 1)} days is no date",
            hint="rename the file, or correct PARTITION_START_DATE",
        ) from None


def find_leads(client: S3Client, settings: Settings) -> SourceObject:
    """Look up the current version of the leads parquet.

    Raises:
        SourceError: it is not there, or S3 cannot be read.
    """
    bucket, key = settings.parquet_bucket, settings.s3_parquet_file
    with explained_s3_errors(f"s3://{bucket}/{key}"):
        head = client.head_object(Bucket=bucket, Key=key)
    return SourceObject(bucket, key, head["ETag"].strip('"'), head["ContentLength"])


def fetch(client: S3Client, source: SourceObject) -> bytes:
    """Read the whole object, in the version that was listed.

    Raises:
        SourceError: it cannot be read, or is another version by now.
    """
    with explained_s3_errors(str(source)):
        body = client.get_object(Bucket=source.bucket, Key=source.key, IfMatch=source.etag)["Body"]
        return body.read()


# --- CSV bytes → text table -----------------------------------------------------------------------


@dataclass(frozen=True)
class RejectedLine:
    """A record of the file that is no row of its table."""

    line: int
    reason: str
    text: str


class CsvText(NamedTuple):
    """A CSV file as text: every record after the header is either a row of `table` or in `rejected`."""

    table: pa.Table
    """One text column per header field, in the header's order; an empty cell is NULL."""
    rejected: list[RejectedLine]
    lines: pa.Array
    """For each row of `table`, the line of the file on which it starts (the header is line 1)."""
    encoding: str


def read_csv_text(raw: bytes) -> CsvText:
    """Read CSV (RFC 4180) into text cells. Never raises on content, whatever the header says.

    A record that breaks the rules is rejected with its line number and raw text: another number of fields than the
    header, a stray or unbalanced quote, a NUL byte (PostgreSQL's text cannot hold one). An empty line is no record.
    """
    content, encoding = _as_utf8(raw)
    if b'"' in content or b"\0" in content or _has_empty_lines(content):
        return _read_records(content.decode(), encoding)
    return _read_plain(content, encoding)


def _as_utf8(raw: bytes) -> tuple[bytes, str]:
    """Re-encode to UTF-8 without a byte order mark; what is no UTF-8 is taken for Windows' cp1252."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    elif raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace").encode(), "utf-16"
    if raw.isascii():
        return raw, "utf-8"
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding).encode(), encoding
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").encode(), "latin-1"


def _has_empty_lines(content: bytes) -> bool:
    return content.startswith((b"\n", b"\r")) or any(gap in content for gap in (b"\n\n", b"\n\r", b"\r\r"))


_HEADER_LINE = re.compile(rb"(?P<names>[^\r\n]*)(?:\r\n|\r|\n)?")


def _read_plain(content: bytes, encoding: str) -> CsvText:
    """The fast way, for content in which a line is a record: no quotes, no NUL bytes, no empty lines."""
    header_line = _HEADER_LINE.match(content)
    assert header_line is not None  # noqa: S101 - it matches the empty string
    header = header_line["names"].decode().split(",") if header_line["names"] else []
    body = pa.py_buffer(content).slice(header_line.end())
    if not body.size:
        return CsvText(_empty_table(header), [], pa.array([], pa.int64()), encoding)

    rejected: list[RejectedLine] = []

    def reject(row: pa.csv.InvalidRow) -> Literal["skip"]:
        line = row.number + 1  # pyarrow sees the body alone
        rejected.append(_wrong_field_count(line, row.actual_columns, len(header), row.text))
        return "skip"

    positions = [str(position) for position in range(len(header))]
    table = pa.csv.read_csv(
        pa.BufferReader(body),
        read_options=pa.csv.ReadOptions(
            column_names=positions,
            use_threads=False,  # the days run in parallel; and only so the row numbers are known
            block_size=body.size,  # a cell may be as long as the file
        ),
        parse_options=pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False, invalid_row_handler=reject),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(positions, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            check_utf8=False,
        ),
    ).rename_columns(header)
    lines = np.arange(2, 2 + table.num_rows + len(rejected))
    if rejected:
        lines = np.setdiff1d(lines, [line.line for line in rejected], assume_unique=True)
    return CsvText(table, rejected, pa.array(lines), encoding)


_FIELD = re.compile(r'"(?P<quoted>(?:[^"]|"")*+)"|(?P<plain>[^",\r\n]*+)')
_LINE_END = re.compile(r"\r\n|\r|\n")


def _read_records(content: str, encoding: str) -> CsvText:
    """The careful way, record by record: for quotes, NUL bytes and empty lines."""
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    rejected: list[RejectedLine] = []
    position, line = 0, 1
    while position < len(content):
        fields, end, fault = _next_record(content, position)
        text = content[position:end]
        if fault:
            rejected.append(RejectedLine(line, fault, text.rstrip("\r\n")))
        elif fields == [""] and text.strip("\r\n") == "":
            pass
        elif "\0" in text:
            rejected.append(RejectedLine(line, "NUL byte", text.rstrip("\r\n")))
        elif header is None:
            header = fields
        elif len(fields) != len(header):
            rejected.append(_wrong_field_count(line, len(fields), len(header), text.rstrip("\r\n")))
        else:
            rows.append(fields)
            lines.append(line)
        line += len(_LINE_END.findall(text))
        position = end
    header = header or []
    columns = [[cell or None for cell in column] for column in zip(*rows, strict=True)]
    table = pa.table([pa.array(column, pa.string()) for column in columns], names=header) if rows else None
    return CsvText(table or _empty_table(header), rejected, pa.array(lines, pa.int64()), encoding)


def _next_record(content: str, start: int) -> tuple[list[str], int, str]:
    """Read one record: its fields, where the next one starts, and what is wrong with it (`""`: nothing).

    A quote in the wrong place would swallow the lines up to the next one: a record at fault is taken to end with its
    first line.
    """
    fields: list[str] = []
    position = start
    while True:
        field = _FIELD.match(content, position)
        assert field is not None  # noqa: S101 - `plain` matches the empty string
        quoted = field["quoted"]
        fields.append(field["plain"] if quoted is None else quoted.replace('""', '"'))
        position = field.end()
        if position == len(content):
            return fields, position, ""
        if content[position] == ",":
            position += 1
            continue
        line_end = _LINE_END.match(content, position)
        if line_end:
            return fields, line_end.end(), ""
        unclosed = quoted is None and field.end() == field.start()
        line_end = _LINE_END.search(content, start)
        fault = "quote is never closed" if unclosed else "stray quote"
        return fields, line_end.end() if line_end else len(content), fault


def _wrong_field_count(line: int, actual: int, expected: int, text: str) -> RejectedLine:
    kind = "too few" if actual < expected else "too many"
    return RejectedLine(line, f"{kind} fields: {actual} instead of {expected}", text)


def _empty_table(header: Sequence[str]) -> pa.Table:
    return pa.table([pa.array([], pa.string()) for _ in header], names=list(header))


# --- text table → bronze frame --------------------------------------------------------------------


class Snapshot(NamedTuple):
    """One CSV file, ready for bronze.csv_snapshots."""

    rows: pd.DataFrame
    """One row per record: BRONZE_COLUMNS and `_extraction_date _partition_date _source_file _source_row _extra`."""
    rejected: list[RejectedLine]


def minimal_clean_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a file's columns their bronze names, and `location` (NULL) to a file that has none. Changes nothing else.

    Args:
        frame: text cells under the names of the file's header.
    """
    renamed = {name: BRONZE_NAMES[name] for name in frame.columns if BRONZE_NAMES.get(name, name) != name}
    standard = frame.rename(columns=renamed)
    changes = [f"{old} → {new}" for old, new in renamed.items()]
    if "location" not in standard.columns:
        standard = standard.assign(location=pd.Series(pd.NA, index=standard.index, dtype=TEXT))
        changes.append("location added as NULL")
    log.debug("columns standardised: %s; all cells are text", ", ".join(changes) or "no change")
    return standard


def read_snapshot(raw: bytes, file: SnapshotFile, extraction_date: date) -> Snapshot:
    """Read one CSV file as bronze wants it.

    Raises:
        DataRefusedError: its header lacks a required column, or has one twice; an empty file has nothing to refuse.
    """
    text = read_csv_text(raw)
    if text.encoding != "utf-8":
        log.warning("%s is not UTF-8: read as %s", file, text.encoding)
    is_empty = not text.table.column_names and not text.rejected
    table = _empty_table(BRONZE_COLUMNS) if is_empty else text.table
    check_header(table.column_names, file)
    rows = minimal_clean_csv(text_frame(table))
    unknown = [name for name in rows.columns if name not in BRONZE_COLUMNS]
    if unknown:
        log.warning("%s has columns that bronze has not: %s. They are kept in _extra", file, ", ".join(unknown))
    extra = rows_as_json(rows[unknown])
    count = len(rows)
    rows = rows[list(BRONZE_COLUMNS)].assign(
        _extraction_date=repeated(extraction_date.isoformat(), count),
        _partition_date=repeated(str(file.day), count),
        _source_file=repeated(file.key, count),
        _source_row=pd.arrays.ArrowExtensionArray(text.lines),
        _extra=extra,
    )
    return Snapshot(rows, text.rejected)


def check_header(names: Sequence[str], file: SourceObject) -> None:
    """Hold a header against the columns that bronze wants, in any order and under any known name.

    Raises:
        DataRefusedError: naming every missing and every doubled column.
    """
    counts = Counter(BRONZE_NAMES.get(name, name) for name in names)
    missing = [name for name in BRONZE_COLUMNS if name not in counts and name not in OPTIONAL_COLUMNS]
    doubled = [name for name, count in counts.items() if count > 1]
    faults = []
    if missing:
        faults.append(f"required columns are missing: {', '.join(missing)}")
    if doubled:
        faults.append(f"columns stand there twice: {', '.join(doubled)}")
    if faults:
        header = shorten(",".join(names), 200)
        raise DataRefusedError(
            f"{file}: {'; '.join(faults)}. Its header is {header}",
            hint="have the file delivered again with all columns; a column under a new name is added to BRONZE_NAMES "
            "in etl/utils/extract.py",
        )


def extract_all_csv(client: S3Client, settings: Settings, extraction_date: date | None = None) -> pd.DataFrame:
    """All CSV snapshots as one frame: for notebooks and small jobs. Lines that are no rows are logged and left out.

    Grain: one row per CRM lead and snapshot day, as `Snapshot.rows`.

    Raises:
        SourceError: S3 cannot be read.
        DataRefusedError: a file breaks its contract.
    """
    extraction_date = extraction_date or datetime.now(UTC).date()
    frames = []
    for file in discover_snapshots(client, settings):
        snapshot = read_snapshot(fetch(client, file), file, extraction_date)
        for line in snapshot.rejected:
            log.warning("%s line %d is left out: %s", file, line.line, line.reason)
        frames.append(snapshot.rows)
    return pd.concat(frames, ignore_index=True)


def extract_parquet(client: S3Client, source: SourceObject, extraction_date: date | None = None) -> pd.DataFrame:
    """The backend's leads, untransformed, with the date of extraction.

    Grain: one row per lead as the backend wrote it. Columns: LEADS_COLUMNS and `_extraction_date`, all text.

    Raises:
        SourceError: S3 cannot be read.
        DataRefusedError: it is no parquet file, lacks a column or has one that is no text.
    """
    extraction_date = extraction_date or datetime.now(UTC).date()
    raw = fetch(client, source)
    leads = read_leads(raw, source)
    return leads.assign(_extraction_date=repeated(extraction_date.isoformat(), len(leads)))


def read_leads(raw: bytes, source: SourceObject) -> pd.DataFrame:
    """Read the parquet's three text columns (see `extract_parquet`)."""
    from pyarrow import parquet

    hint = "have it delivered again: three text columns lead_UUID, phone_hash, email_hash"
    try:
        table = parquet.read_table(pa.BufferReader(raw), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataRefusedError(f"{source} is no readable parquet file: {shorten(error)}", hint=hint) from error
    missing = [name for name in LEADS_COLUMNS if name not in table.column_names]
    if missing:
        names = ", ".join(table.column_names)
        raise DataRefusedError(f"{source}: columns are missing: {', '.join(missing)}. It has: {names}", hint=hint)
    columns = [_as_text(table.column(name), name, source, hint) for name in LEADS_COLUMNS]
    return text_frame(pa.table(columns, names=list(LEADS_COLUMNS)))


def _as_text(column: pa.ChunkedArray, name: str, source: SourceObject, hint: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
        raise DataRefusedError(f"{source}: column {name} is {column.type}, not text", hint=hint)
    return column.cast(pa.string())
