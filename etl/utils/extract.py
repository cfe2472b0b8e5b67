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
import pyarrow.compute as pc
import pyarrow.csv

from etl.utils.errors import DataRefusedError, listed, shorten
from etl.utils.frames import TEXT, repeated, rows_as_json, rows_where, text_frame
from etl.utils.source import SnapshotFile, SourceObject, discover_snapshots, fetch
from etl.utils.utils_connection import Settings

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
"""Those that a file may lack: they are NULL then."""
LEADS_COLUMNS = ("lead_UUID", "phone_hash", "email_hash")


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
    records: int
    """Records after the header, counted in the file, not in what was made of it. All are in `table` or `rejected`."""


def read_csv_text(raw: bytes) -> CsvText:
    """Read CSV (RFC 4180) into text cells. Never raises on content, and knows nothing of what the columns should be.

    The first record is the header. Every other record is accepted, as RFC 4180 reads it, or rejected with its first
    line and its raw text: another number of fields than the header, a quote inside an unquoted field, text after a
    closing quote, a NUL byte (which PostgreSQL's text cannot hold). Where a quote is never closed, nobody can tell what
    the rest of the file means: each of its lines is rejected. A line that is wholly empty is no record.
    """
    (whole,) = read_csv_pieces(raw, None)
    return whole


def read_csv_pieces(raw: bytes, piece_size: int | None) -> Iterator[CsvText]:
    """Read CSV as `read_csv_text` does, in pieces of about so many bytes, cut between records; None for one piece.

    There is always a first piece, if one without rows. What a piece takes of memory is about ten times its size.
    """
    content, encoding = _as_utf8(raw.rstrip(b"\r\n") if raw.endswith((b"\n\n", b"\n\r\n")) else raw)
    if b"\0" in content or _has_empty_lines(content) or not _is_strict(content):
        return _read_records(content.decode(), encoding, piece_size)
    return _read_strict(content, encoding, piece_size)


_UTF8_MARK = b"\xef\xbb\xbf"
_BYTE_ORDER_MARKS = {
    _UTF8_MARK: "utf-8",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_CP1252 = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
"""Where cp1252 differs from latin-1. Its five unassigned bytes stay control characters, as browsers read them."""


def _as_utf8(raw: bytes) -> tuple[bytes, str]:
    """Re-encode to UTF-8 without a byte order mark; what is no Unicode is taken for Windows' cp1252."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8")
    if encoding == "utf-8":
        raw = raw.removeprefix(_UTF8_MARK)
        if raw.isascii():
            return raw, encoding
    try:
        return raw.decode(encoding).encode(), encoding
    except UnicodeError:
        return raw.decode("latin-1").translate(_CP1252).encode(), "cp1252"


def _has_empty_lines(content: bytes) -> bool:
    gaps = (b"\n\n", b"\n\r", b"\r\r") if b"\r" in content else (b"\n\n",)
    return content.startswith((b"\n", b"\r")) or any(gap in content for gap in gaps)


_QUOTE = ord('"')
_BESIDE_A_QUOTE = np.zeros(256, dtype=bool)
_BESIDE_A_QUOTE[list(b',\r\n"')] = True


def _is_strict(content: bytes) -> bool:
    """Whether every quote stands where RFC 4180 allows one: opening after, and closing before, a comma or a line's end.

    A quote beside a quote is one that is doubled within a cell: it closes the cell and opens it again.
    """
    quotes = _quotes(content)
    if not len(quotes):
        return True
    if len(quotes) % 2:
        return False
    characters = np.frombuffer(content, np.uint8)
    opening, closing = quotes[::2], quotes[1::2]
    before = characters[opening[opening > 0] - 1]
    after = characters[closing[closing < len(content) - 1] + 1]
    return bool(_BESIDE_A_QUOTE[before].all() and _BESIDE_A_QUOTE[after].all())


def _quotes(content: bytes) -> np.ndarray:
    """Where the quotes are."""
    if b'"' not in content:
        return np.array([], dtype=np.int64)
    return np.flatnonzero(np.frombuffer(content, np.uint8) == _QUOTE)


_STRICT_FIELD = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
_STRICT_RECORD = re.compile(_STRICT_FIELD + rb"(?:," + _STRICT_FIELD + rb")*+(?:\r\n|\r|\n|\Z)")


def _read_strict(content: bytes, encoding: str, piece_size: int | None) -> Iterator[CsvText]:
    """The fast way, where only field counts can be wrong: no NUL bytes, no empty lines, quotes in order."""
    header_record = _STRICT_RECORD.match(content)
    assert header_record is not None  # noqa: S101 - it matches the empty string
    header_text = header_record[0].decode()
    header = _next_record(header_text, 0)[0] if header_text else []
    line = 1 + len(_LINE_END.findall(header_text))
    start = header_record.end()
    if start == len(content):
        yield CsvText(_text_table(header, []), [], pa.array([], pa.int64()), encoding, 0)
    for end in _cuts(content, start, piece_size):
        piece, lines = _read_strict_piece(content[start:end], header, line, encoding)
        yield piece
        start, line = end, line + lines


def _cuts(content: bytes, start: int, piece_size: int | None) -> Iterator[int]:
    """Where pieces end: after a line's end that is in no quotes, so that a record is whole."""
    quotes = _quotes(content) if piece_size else np.array([])
    while start < len(content):
        end = start + piece_size if piece_size else len(content)
        while end < len(content):
            line_end = _LINE_END_BYTES.search(content, end)
            end = line_end.end() if line_end else len(content)
            if np.searchsorted(quotes, end) % 2 == 0:
                break
        start = min(end, len(content))
        yield start


def _read_strict_piece(content: bytes, header: Sequence[str], first_line: int, encoding: str) -> tuple[CsvText, int]:
    """Read records that are whole; returns how many lines they take, too."""
    ragged: list[pa.csv.InvalidRow] = []

    def skip(row: pa.csv.InvalidRow) -> Literal["skip"]:
        ragged.append(row)
        return "skip"

    quoted = b'"' in content
    body = _UTF8_MARK + content if content.startswith(_UTF8_MARK) else content  # Arrow takes one off; here it is data
    positions = [str(position) for position in range(len(header))]
    table = pa.csv.read_csv(
        pa.BufferReader(body),
        read_options=pa.csv.ReadOptions(
            column_names=positions,
            use_threads=False,  # the days run in parallel; and only so the row numbers are known
            block_size=len(body),  # a cell may be as long as the piece
        ),
        parse_options=pa.csv.ParseOptions(
            quote_char='"' if quoted else False,
            newlines_in_values=quoted,
            ignore_empty_lines=False,
            invalid_row_handler=skip,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(positions, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            check_utf8=False,
        ),
    ).rename_columns(header)

    count = table.num_rows + len(ragged)
    records, lines = _count_records(content), _count_lines(content)
    is_row = np.ones(count, dtype=bool)
    is_row[[row.number - 1 for row in ragged]] = False
    height = np.ones(count, dtype=np.int64)  # lines of a record: cells in quotes may hold line ends
    if lines > records:
        height[is_row] += sum(_line_ends(column) for column in table.columns)
        height[~is_row] += np.fromiter((len(_LINE_END.findall(row.text.rstrip("\r\n"))) for row in ragged), np.int64)
    first_lines = first_line + np.cumsum(height) - height
    rejected = [
        _wrong_field_count(int(line), row.actual_columns, len(header), row.text.rstrip("\r\n"))
        for line, row in zip(first_lines[~is_row], ragged, strict=True)
    ]
    return CsvText(table, rejected, pa.array(first_lines[is_row]), encoding, records), lines


def _count_records(content: bytes) -> int:
    """The line ends outside of quotes, and the last record where none ends it."""
    return _count_lines(b'"'.join(content.split(b'"')[::2]) if b'"' in content else content)


def _count_lines(content: bytes) -> int:
    line_ends = content.count(b"\n")
    if b"\r" in content:
        line_ends += content.count(b"\r") - content.count(b"\r\n")
    return line_ends + (not content.endswith((b"\n", b"\r")))


def _line_ends(column: pa.ChunkedArray) -> np.ndarray:
    counts: np.ndarray = pc.fill_null(pc.count_substring_regex(column, r"\r\n|\r|\n"), 0).to_numpy()
    return counts


_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(
    r'"(?P<quoted>(?:[^"]|"")*+)"(?P<trailing>[^,\r\n]*+)'  # trailing: against the rules, but part of the record
    r"|(?P<plain>[^,\r\n]*+)"
)


def _read_records(content: str, encoding: str, piece_size: int | None) -> Iterator[CsvText]:
    """The careful way, record by record: for quotes, NUL bytes and empty lines."""
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    rejected: list[RejectedLine] = []
    position, line, records = 0, 1, 0
    pieces = 0
    while position < len(content):
        fields, end, fault = _next_record(content, position)
        text = content[position:end].rstrip("\r\n")
        if fault == _UNCLOSED:
            end = len(content)
            unreadable = _rejected_lines(content[position:], line, f"{fault} (opened on line {line})")
            records += len(unreadable)
            rejected.extend(unreadable)
        elif "\0" in text or fault:
            records += 1
            rejected.append(RejectedLine(line, fault or "NUL byte", text))
        elif text and header is not None:
            records += 1
            if len(fields) == len(header):
                rows.append(fields)
                lines.append(line)
            else:
                rejected.append(_wrong_field_count(line, len(fields), len(header), text))
        if text and header is None:
            header = fields
        line += len(_LINE_END.findall(content, position, end))
        position = end
        if piece_size and position >= (pieces + 1) * piece_size and header is not None:
            yield CsvText(_text_table(header, rows), rejected, pa.array(lines, pa.int64()), encoding, records)
            rows, lines, rejected, records = [], [], [], 0
            pieces = position // piece_size
    if records or not pieces:
        yield CsvText(_text_table(header or [], rows), rejected, pa.array(lines, pa.int64()), encoding, records)


def _rejected_lines(content: str, first_line: int, reason: str) -> list[RejectedLine]:
    texts = enumerate(_LINE_END.split(content), start=first_line)
    return [RejectedLine(line, reason, text) for line, text in texts if text]


_UNCLOSED = "quote is never closed"


def _next_record(content: str, start: int) -> tuple[list[str], int, str]:
    """Read one record: its fields, where the next one starts, and what is wrong with it (`""`: nothing).

    A record with a fault ends where the usual readers end it, so that the next one begins where it should.
    """
    line = _LINE.match(content, start)
    assert line is not None  # noqa: S101 - it matches at the end, too
    if '"' not in line[0]:
        return line[0].rstrip("\r\n").split(","), line.end(), ""
    fields: list[str] = []
    fault = ""
    position = start
    while True:
        field = _FIELD.match(content, position)
        assert field is not None  # noqa: S101 - `plain` matches the empty string
        if field["quoted"] is not None:
            fields.append(field["quoted"].replace('""', '"') + field["trailing"])
            fault = fault or ("text after a closing quote" if field["trailing"] else "")
        elif field["plain"].startswith('"'):
            return [field["plain"]], line.end(), _UNCLOSED
        else:
            fields.append(field["plain"])
            fault = fault or ("quote inside an unquoted field" if '"' in field["plain"] else "")
        position = field.end()
        if position == len(content):
            return fields, position, fault
        if content[position] == ",":
            position += 1
            continue
        line_end = _LINE_END.match(content, position)
        assert line_end is not None  # noqa: S101 - a field ends at a comma, a line's end or the file's
        return fields, line_end.end(), fault


def _wrong_field_count(line: int, actual: int, expected: int, text: str) -> RejectedLine:
    kind = "too few" if actual < expected else "too many"
    return RejectedLine(line, f"{kind} fields: {actual} instead of {expected}", text)


def _text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [() for _ in header]
    arrays = [pa.array([cell or None for cell in column], pa.string()) for column in columns]
    return pa.Table.from_arrays(arrays, names=list(header))


# --- text table → bronze frame --------------------------------------------------------------------


class Snapshot(NamedTuple):
    """One CSV file, ready for bronze.csv_snapshots."""

    rows: pd.DataFrame
    """One row per record: BRONZE_COLUMNS and `_extraction_date _partition_date _source_file _source_row _extra`."""
    rejected: list[RejectedLine]
    records: int
    """Records of the file, counted in its bytes."""


def minimal_clean_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a file's columns their bronze names, and a file without them those that it may lack, as NULL. Nothing else.

    Args:
        frame: text cells under the names of the file's header.
    """
    renamed = {name: BRONZE_NAMES[name] for name in frame.columns if BRONZE_NAMES.get(name, name) != name}
    standard = frame.rename(columns=renamed)
    changes = [f"{old} → {new}" for old, new in renamed.items()]
    for name in sorted(OPTIONAL_COLUMNS - set(standard.columns)):
        standard = standard.assign(**{name: pd.Series(pd.NA, index=standard.index, dtype=TEXT)})
        changes.append(f"{name} added as NULL")
    log.debug("columns standardised: %s; all cells are text", ", ".join(changes) or "no change")
    return standard


def read_snapshot(raw: bytes, file: SnapshotFile, extraction_date: date) -> Snapshot:
    """Read one CSV file as bronze wants it.

    Raises:
        DataRefusedError: its header lacks a required column, or has one twice; an empty file has nothing to refuse.
    """
    (whole,) = read_snapshot_pieces(raw, file, extraction_date, None)
    return whole


def read_snapshot_pieces(
    raw: bytes, file: SnapshotFile, extraction_date: date, piece_size: int | None
) -> Iterator[Snapshot]:
    """Read one CSV file as `read_snapshot` does, in pieces of about so many bytes. There is always a first one.

    Raises:
        DataRefusedError: see `read_snapshot`; before the first piece.
    """
    for number, text in enumerate(read_csv_pieces(raw, piece_size)):
        if number == 0 and text.encoding != "utf-8":
            log.warning("%s is not UTF-8: read as %s", file, text.encoding)
        is_empty = not text.table.column_names and not text.rejected
        table = _text_table(BRONZE_COLUMNS, []) if is_empty else _name_columns(text.table)
        check_header(table.column_names, file)
        rows = minimal_clean_csv(text_frame(table))
        unknown = [name for name in rows.columns if name not in BRONZE_COLUMNS]
        if unknown and number == 0:
            log.warning("%s has columns that bronze has not: %s. They are kept in _extra", file, listed(unknown))
        count = len(rows)
        columns = {name: rows[name].array for name in BRONZE_COLUMNS} | {
            "_extraction_date": repeated(extraction_date.isoformat(), count),
            "_partition_date": repeated(str(file.day), count),
            "_source_file": repeated(file.key, count),
            "_source_row": pd.arrays.ArrowExtensionArray(text.lines),
            "_extra": rows_as_json(rows[unknown]).array,
        }
        yield Snapshot(pd.DataFrame(columns, copy=False), text.rejected, text.records)


def _name_columns(table: pa.Table) -> pa.Table:
    """Name columns that the header does not, and leave out those that are empty as well: commas at the lines' ends."""
    named = [name.replace("\0", "\u2400") or f"column {n}" for n, name in enumerate(table.column_names, start=1)]
    is_empty = [
        not name and column.null_count == len(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return table.rename_columns(named).select([n for n, empty in enumerate(is_empty) if not empty])


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
        faults.append(f"columns stand there twice: {listed(doubled)}")
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
    discovered = discover_snapshots(client, settings)
    for refusal in discovered.refused:
        raise refusal
    for file in discovered.files:
        snapshot = read_snapshot(fetch(client, file), file, extraction_date)
        for line in snapshot.rejected:
            log.warning("%s line %d is left out: %s", file, line.line, line.reason)
        frames.append(snapshot.rows)
    return pd.concat(frames, ignore_index=True)


class Leads(NamedTuple):
    """The leads parquet, ready for bronze.leads_parquet."""

    rows: pd.DataFrame
    """One row per lead as the backend wrote it: LEADS_COLUMNS and `_extraction_date`, all text."""
    rejected: list[RejectedLine]
    """Rows that PostgreSQL's text cannot hold; their line is the row's number."""
    records: int
    """Rows of the file."""


def extract_parquet(client: S3Client, source: SourceObject, extraction_date: date | None = None) -> pd.DataFrame:
    """The backend's leads, untransformed, with the date of extraction: for notebooks. See `Leads.rows`.

    Raises:
        SourceError: S3 cannot be read.
        DataRefusedError: it is no parquet file, lacks a column or has one that is no text.
    """
    return read_leads(fetch(client, source), source, extraction_date or datetime.now(UTC).date()).rows


def read_leads(raw: bytes, source: SourceObject, extraction_date: date) -> Leads:
    """Read the leads parquet as bronze wants it.

    Raises:
        DataRefusedError: it is no parquet file, holds no lead, lacks a column or has one that is no text.
    """
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
    if not table.num_rows:
        raise DataRefusedError(f"{source} holds no lead", hint=hint)
    empty = [name for name in LEADS_COLUMNS if table.column(name).null_count == table.num_rows]
    if empty:
        raise DataRefusedError(f"{source}: columns without any value: {', '.join(empty)}", hint=hint)
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
    rows = text_frame(rows_where(pa.array(~has_nul), table))
    rows = rows.assign(_extraction_date=repeated(extraction_date.isoformat(), len(rows)))
    return Leads(rows, rejected, table.num_rows)


def _as_text(column: pa.ChunkedArray, name: str, source: SourceObject, hint: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
        raise DataRefusedError(f"{source}: column {name} is {column.type}, not text", hint=hint)
    return column.cast(pa.string())
