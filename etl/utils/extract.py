"""Read source files from S3 into data frames of text.

A CSV file has one record per CRM lead in that day's snapshot; some files repeat leads. Cells are loaded as text,
without type inference: `02139` keeps its zero, and `NA` stays `NA`. An empty cell is NULL.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from etl.utils.columns import BLANKS, BRONZE_COLUMNS, BRONZE_NAMES, OPTIONAL_COLUMNS
from etl.utils.csv_reader import (
    FEWEST_COLUMNS,
    REASONS_OF_CUT_RECORDS,
    CsvText,
    RejectedLine,
    read_csv_chunks,
    text_table,
)
from etl.utils.errors import DataRefusedError, listed, shorten
from etl.utils.frames import TEXT, rows_as_json, text_array, text_frame
from etl.utils.s3_source import SnapshotFile, SourceObject, discover_snapshots, download
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


log = logging.getLogger(__name__)
LEADS_COLUMNS = ("lead_UUID", "phone_hash", "email_hash")


class SourceRows(NamedTuple):
    """The rows of a source file, or of a chunk of it, ready for bronze."""

    rows: pd.DataFrame
    """One row per accepted record, all text but the integer `_source_row`. For bronze.csv_snapshots: BRONZE_COLUMNS and
    `_extraction_date _partition_date _source_file _source_row _extra`; for bronze.leads_parquet: LEADS_COLUMNS and
    `_extraction_date`."""
    rejected: list[RejectedLine]
    """Of the leads parquet, rows with a NUL byte, which PostgreSQL cannot store; `line` is the row number, from 1."""
    records: int
    """Number of records, accepted or rejected."""


def minimal_clean_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename a file's columns to their bronze names, and add missing optional columns as NULL. Keep all other columns.

    Args:
        frame: cells as text, columns named as in the file's header.
    """
    renamed = {name: BRONZE_NAMES[name] for name in frame.columns if BRONZE_NAMES.get(name, name) != name}
    standard = frame.rename(columns=renamed)
    changes = [f"{old} → {new}" for old, new in renamed.items()]
    for name in sorted(OPTIONAL_COLUMNS - set(standard.columns)):
        standard = standard.assign(**{name: pd.Series(pd.NA, index=standard.index, dtype=TEXT)})
        changes.append(f"{name} added as NULL")
    log.debug("columns renamed or added: %s", ", ".join(changes) or "none")
    return standard


def read_snapshot(raw: bytes, file: SnapshotFile, extraction_date: date) -> SourceRows:
    """Read one CSV file into rows for bronze.csv_snapshots.

    Raises:
        DataRefusedError: the file is not CSV, or a damaged gzip file; its header lacks a required column, has one under
            a name that is only similar, or contains a column twice; or a line repeats the header. A file that is empty
            or blank is not refused: it has no rows.
    """
    (whole,) = read_snapshot_chunks(raw, file, extraction_date, None)
    return whole


def read_snapshot_chunks(
    raw: bytes, file: SnapshotFile, extraction_date: date, chunk_size: int | None
) -> Iterator[SourceRows]:
    """Read one CSV file as `read_snapshot` does, and yield one or more chunks of about `chunk_size` bytes (None: one).

    Raises:
        DataRefusedError: see `read_snapshot`. A repeated header is found only when its chunk is read.
    """
    content = _decompressed(raw, file)
    warned: set[str] = set()
    for number, text in enumerate(read_csv_chunks(b"" if content.isspace() else content, chunk_size)):
        if number == 0:
            _warn_of_encoding(text, file)
        is_empty = not text.table.column_names and not text.rejected
        table = text_table(BRONZE_COLUMNS, []) if is_empty else _name_columns(text.table)
        check_header(table.column_names, file)
        rows = minimal_clean_csv(text_frame(table))
        _check_repeated_header(text, rows, file)
        unknown = [name for name in rows.columns if name not in BRONZE_COLUMNS]
        if new := [name for name in unknown if name not in warned]:  # a later chunk may fill a nameless column
            warned.update(new)
            log.warning("%s has unknown columns, loaded into bronze.csv_snapshots._extra: %s", file, listed(new))
        columns = {name: rows[name].array for name in BRONZE_COLUMNS} | {
            "_extraction_date": pd.Series(extraction_date.isoformat(), rows.index, TEXT),
            "_partition_date": pd.Series(str(file.day), rows.index, TEXT),
            "_source_file": pd.Series(file.key, rows.index, TEXT),
            "_source_row": pd.arrays.ArrowExtensionArray(text.lines),
            "_extra": rows_as_json(rows[unknown]).array,
        }
        yield SourceRows(pd.DataFrame(columns, copy=False), text.rejected, text.records)
    last_row = text.lines[-1].as_py() if len(text.lines) else 0
    last = text.rejected[-1] if text.rejected and text.rejected[-1].line > last_row else None
    is_cut = last is not None and last.reason.startswith(REASONS_OF_CUT_RECORDS)
    if last and is_cut and not content.rstrip(b"\0").endswith((b"\n", b"\r")):
        log.warning("%s ends in the middle of line %d: it is probably incomplete", file, last.line)


def _decompressed(raw: bytes, file: SourceObject) -> bytes:
    """Decompress the content of a gzip file; return any other content unchanged."""
    if raw.startswith(GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataRefusedError(f"{file} is a damaged gzip file: {shorten(error)}", hint=_AS_CSV) from None
    if (kind := _other_format(raw)) is not None:
        raise DataRefusedError(f"{file} is {kind}, not a CSV file", hint=_AS_CSV)
    return raw


GZIP = b"\x1f\x8b"
_AS_CSV = "have the file exported and uploaded again as CSV: separated by commas, in UTF-8"
_OTHER_FORMATS = (
    (GZIP, "compressed twice with gzip"),
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of the old format (.xls)"),
    (b"PAR1", "a parquet file"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "a rich-text document"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<", "an XML or HTML document"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
    (b"sep=", "an Excel export that starts with a sep=… line"),
    (b'"sep=', "an Excel export that starts with a sep=… line"),
)
"""First bytes of a file (in lower case if they are text) → description of its format."""


def _other_format(raw: bytes) -> str | None:
    start = raw[:1024]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start.decode("utf-16", "ignore").encode()
    start = start.lstrip(b"\xef\xbb\xbf").lstrip()  # with any number of byte order marks
    for signature, kind in _OTHER_FORMATS:
        if start.startswith(signature) or start.lower().startswith(signature):
            return kind
    if not raw.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) and start.count(b"\0") > len(start) / 4:
        return "a binary file, or text in UTF-16 or UTF-32 without a byte order mark"
    return None


def _warn_of_encoding(text: CsvText, file: SourceObject) -> None:
    if text.encoding != "utf-8":
        log.warning("%s is not UTF-8: read as %s", file, text.encoding)
    if count := len(text.cp1252_lines):
        numbers = ", ".join(map(str, text.cp1252_lines[:5])) + ", …" * (count > 5)
        log.warning("%s: invalid UTF-8 bytes were decoded as cp1252, on %d of its lines: %s", file, count, numbers)


def _name_columns(table: pa.Table) -> pa.Table:
    """Return the table with trimmed column names.

    Columns without a name, which trailing commas cause, are dropped if they are empty, and named by position otherwise.
    """
    bare = [re.sub(r'^"(.*)"$', r"\1", name.strip(BLANKS)).strip(BLANKS) for name in table.column_names]
    named = [name.replace("\0", "\u2400") or f"column {n}" for n, name in enumerate(bare, start=1)]
    is_empty = [not name and column.null_count == len(column) for name, column in zip(bare, table.columns, strict=True)]
    return table.rename_columns(named).select([n for n, empty in enumerate(is_empty) if not empty])


def _check_repeated_header(text: CsvText, rows: pd.DataFrame, file: SourceObject) -> None:
    """Raise if a record after the header repeats the header, as if another file was appended."""
    numbers, hashes = (text_array(rows[name]) for name in ("LEADNUMBER", "email_hash"))
    begins_otherwise = pc.or_(pc.less(numbers, "0"), pc.greater_equal(numbers, ":"))  # than with a digit
    cells = (column.filter(begins_otherwise).to_pylist() for column in (text.lines, numbers, hashes))
    records = {line: (number, name or "") for line, number, name in zip(*cells, strict=True)}
    lines = [line for line, record in records.items() if len(_known_names(record)) == 2]
    # A header with another number of columns, or quoted behind a byte order mark, is a rejected record.
    rejected = {line.line: line.text.split(",") for line in text.rejected if line.line > 1}
    lines += [line for line, record in rejected.items() if len(_known_names(record)) >= 6]
    if lines:
        raise DataRefusedError(
            f"{file}: line {min(lines)} repeats the header, so another file was probably appended",
            hint="request the file again, with the snapshot of its own day only",
        )


MOST_COLUMNS = 200
"""If a header with problems has more columns, the line ends of the file are probably missing."""


def check_header(names: Sequence[str], file: SourceObject) -> None:
    """Raise if a header lacks a required column, has a column under a name that is only similar, or has a column twice.

    Raises:
        DataRefusedError: names all missing, similar and duplicate columns, or the separator if it is not a comma; or
            the first line is not a header, or the line ends are probably missing, or lines are quoted as a whole.
    """
    counts = Counter(BRONZE_NAMES.get(name, name) for name in names)
    missing = [name for name in BRONZE_COLUMNS if name not in counts and name not in OPTIONAL_COLUMNS]
    duplicates = [name for name, count in counts.items() if count > 1]
    similar = [name for name in names if _BARE_NAMES.get(_bare_name(name), name) not in counts]
    problems = []
    if missing:
        problems.append(f"missing required columns: {', '.join(missing)}")
    if similar:
        problems.append(f"columns that differ from known ones only in case, blanks or underscores: {listed(similar)}")
    if duplicates:
        problems.append(f"duplicate columns: {listed(duplicates)}")
    if missing and (separator := _other_separator(names)):
        raise DataRefusedError(f"{file}: its columns are separated by {separator}, not by commas", hint=_AS_CSV)
    if len(names) == 1 and len({*names[0].split(",")} & BRONZE_NAMES.keys()) > 1:
        raise DataRefusedError(f"{file}: its lines are quoted as a whole, so each has a single column", hint=_AS_CSV)
    header = shorten(",".join(names), 200)
    width = next((number for number, name in enumerate(names, start=1) if len(name.splitlines()) > 1), len(names))
    swallowed = [line for name in names for line in name.splitlines()[1:] if line.count(",") >= width - 1]
    if swallowed and width >= FEWEST_COLUMNS and not BRONZE_NAMES.keys() & {*names[width:]}:
        raise DataRefusedError(
            f"{file}: a quote in its header is not closed on the same line: {header}",
            hint="request the file again, with a correct first line",
        )
    if problems and len(names) > MOST_COLUMNS:
        raise DataRefusedError(
            f"{file}: its first line has {len(names):,} columns, so its line ends are probably missing; it has "
            f"{'; and '.join(problems)}. Header: {header}",
            hint="request the file again, with each record on a line of its own",
        )
    if not (counts.keys() & {*BRONZE_COLUMNS} or similar):
        raise DataRefusedError(
            f"{file}: its first line is not a header, because it names none of {', '.join(BRONZE_COLUMNS)}: {header}",
            hint="request the file again, with the names of its columns in the first line",
        )
    if problems:
        raise DataRefusedError(
            f"{file} has {'; and '.join(problems)}. Header: {header}",
            hint="request the file again with the expected columns; if a column was renamed, add its new name to "
            "CRM_COLUMNS in etl/utils/columns.py"
            if missing or similar
            else "request the file again with each column once",
        )


def _bare_name(name: str) -> str:
    return "".join(name.replace("_", " ").split()).lower()


_BARE_NAMES = {_bare_name(name): column for name, column in BRONZE_NAMES.items()}


def _known_names(record: Iterable[str]) -> set[str]:
    """Return the cells of a record that are names of columns, whatever their case, blanks and underscores."""
    return {_bare_name(cell.strip(BLANKS + '"')) for cell in record} & _BARE_NAMES.keys()


def _other_separator(names: Sequence[str]) -> str | None:
    """Return the name of the separator of a header if it is not the comma; None if it is, or is unknown."""
    header = ",".join(names)
    for separator, name in {";": "semicolons", "\t": "tabs", "|": "vertical bars"}.items():
        if len({name.strip(BLANKS + '"') for name in header.split(separator)} & BRONZE_NAMES.keys()) > 1:
            return name
    return None


def extract_all_csv(client: S3Client, settings: Settings, extraction_date: date | None = None) -> pd.DataFrame:
    """Return the rows of all CSV snapshots as one frame, for notebooks and small jobs. Logs rejected lines.

    Grain: one row per accepted record of a file. Columns: see `SourceRows.rows`.

    Args:
        extraction_date: value of `_extraction_date`, by default today (UTC).

    Raises:
        SourceError: S3 cannot be read, or contains no snapshot.
        DataRefusedError: see `Listing.refused` and `read_snapshot`.
    """
    extraction_date = extraction_date or datetime.now(UTC).date()
    frames = []
    listing = discover_snapshots(client, settings)
    for refusal in listing.refused:
        raise refusal
    for file in listing.files:
        snapshot = read_snapshot(download(client, file), file, extraction_date)
        for line in snapshot.rejected:
            log.warning("%s line %d rejected: %s", file, line.line, line.reason)
        frames.append(snapshot.rows)
    return pd.concat(frames, ignore_index=True)


def extract_parquet(client: S3Client, source: SourceObject, extraction_date: date | None = None) -> pd.DataFrame:
    """Return the leads of the backend as text, for notebooks. Rows with a NUL byte are left out (see `SourceRows`).

    Args:
        extraction_date: value of `_extraction_date`, by default today (UTC).

    Raises:
        SourceError: see `download`.
        DataRefusedError: see `read_leads`.
    """
    return read_leads(download(client, source), source, extraction_date or datetime.now(UTC).date()).rows


def read_leads(raw: bytes, source: SourceObject, extraction_date: date) -> SourceRows:
    """Read the leads parquet, which may be compressed with gzip, into rows for bronze.leads_parquet.

    Raises:
        DataRefusedError: the file is not parquet, has no rows or contains a column twice, or one of LEADS_COLUMNS is
            missing, without any value, neither text nor UUID, or not UTF-8.
    """
    from pyarrow import parquet

    hint = (
        "request the file again as parquet, with text columns lead_UUID, phone_hash, email_hash, "
        "and no duplicate columns"
    )
    try:
        file = parquet.ParquetFile(pa.BufferReader(gzip.decompress(raw) if raw.startswith(GZIP) else raw))
        names = file.schema_arrow.names
        columns = [_LEADS_NAMES.get(name.lower(), name) for name in names]
        if duplicates := [name for name, column in zip(names, columns, strict=True) if columns.count(column) > 1]:
            raise DataRefusedError(f"{source} has duplicate columns, ignoring case: {listed(duplicates)}", hint=hint)
        if missing := [name for name in LEADS_COLUMNS if name not in columns]:
            raise DataRefusedError(
                f"{source} has missing columns: {', '.join(missing)}. Columns: {listed(names)}", hint=hint
            )
        names_read = [names[columns.index(name)] for name in LEADS_COLUMNS]
        table = file.read(names_read, use_threads=False).select(names_read).rename_columns(LEADS_COLUMNS)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DataRefusedError(f"{source} cannot be read as parquet: {shorten(error, 300)}", hint=hint) from error
    if not table.num_rows:
        raise DataRefusedError(f"{source} has no rows", hint=hint)
    empty = [name for name in LEADS_COLUMNS if table.column(name).null_count == table.num_rows]
    if empty:
        raise DataRefusedError(f"{source} has columns without any value: {', '.join(empty)}", hint=hint)
    table = pa.table(
        [_as_text(table.column(name), name, source, hint) for name in LEADS_COLUMNS], names=list(LEADS_COLUMNS)
    )
    has_nul = np.logical_or.reduce(
        [pc.fill_null(pc.match_substring(column, "\0"), False).to_numpy() for column in table.columns]
    )
    rejected = [
        RejectedLine(
            int(position) + 1, "NUL byte", " ".join(map(str, table.slice(position, 1).to_pylist()[0].values()))
        )
        for position in np.flatnonzero(has_nul)
    ]
    rows = text_frame(table.filter(pa.array(~has_nul)))
    rows = rows.assign(_extraction_date=pd.Series(extraction_date.isoformat(), rows.index, TEXT))
    return SourceRows(rows, rejected, table.num_rows)


def _as_text(column: pa.ChunkedArray, name: str, source: SourceObject, hint: str) -> pa.ChunkedArray:
    """Convert a column of the parquet to text. Writers store text and UUIDs in several types."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type == pa.uuid() or (column.type == pa.binary(16) and name == "lead_UUID"):
        texts = [None if raw is None else str(UUID(bytes=bytes(raw))) for raw in column.cast(pa.binary(16)).to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if column.type not in _TEXT_TYPES:
        raise DataRefusedError(f"{source}: column {name} is {column.type}, not text", hint=hint)
    try:
        column.validate(full=True)  # a cast from text to text does not check it
        return column.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataRefusedError(f"{source}: column {name} is not UTF-8: {shorten(error)}", hint=hint) from None


_LEADS_NAMES = {name.lower(): name for name in LEADS_COLUMNS}
_TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),  # without a logical type: how some writers store text
    pa.large_binary(),
    pa.null(),
)
