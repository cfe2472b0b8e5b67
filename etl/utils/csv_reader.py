"""Read CSV content (RFC 4180) with any columns into tables of text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from etl.utils.columns import BLANK_ROW, BLANKS, FOOTER


@dataclass(frozen=True)
class RejectedLine:
    """A record that cannot be read as a row. After a quote that is never closed, every non-empty line counts as a
    record."""

    line: int
    """Line of the file on which the record starts (the header is line 1)."""
    reason: str
    text: str


class CsvText(NamedTuple):
    """A CSV file or a chunk of it, as text: every record after the header is a row of `table` or in `rejected`."""

    table: pa.Table
    """One text column per header field, in the header's order; an empty cell is NULL."""
    rejected: list[RejectedLine]
    lines: pa.Array
    """For each row of `table`, the line of the file on which it starts (the header is line 1)."""
    encoding: str
    """Encoding of the file: utf-8, utf-16, utf-32 or cp1252."""
    records: int
    """Number of records: rows of `table` and items of `rejected`. Counted independently of parsing, unless the content
    has NUL bytes, empty lines, misplaced quotes or cells with line ends."""
    cp1252_lines: Sequence[int]
    """Numbers of the lines with bytes that are not UTF-8 and were decoded as cp1252. Covers the whole file, even for a
    chunk."""


def read_csv_text(raw: bytes) -> CsvText:
    """Read CSV (RFC 4180) into text cells. Never raises, whatever the content.

    The first record is the header. Every other record becomes a row, unless its number of fields differs from the
    header's, or it contains a quote inside an unquoted field, text after a closing quote, or a NUL byte (which
    PostgreSQL cannot store): then it is rejected, with its line number and text. A header with such a fault is not. If
    a quote is stray (see `_next_record`), only its line is rejected; if it is never closed otherwise, all lines from
    the beginning of its record on are. Empty lines are ignored.
    """
    (whole,) = read_csv_chunks(raw, None)
    return whole


def read_csv_chunks(raw: bytes, chunk_size: int | None) -> Iterator[CsvText]:
    """Read CSV as `read_csv_text` does, and yield chunks of whole records of about `chunk_size` bytes.

    Yields at least one chunk; only one if `chunk_size` is None. A chunk takes about ten times its size in memory.
    Content with NUL bytes, empty lines, misplaced quotes or cells with line ends takes about five times as long.
    """
    text = _as_utf8(raw.rstrip(b"\r\n") if raw.endswith((b"\n\n", b"\n\r\n")) else raw)
    if b"\0" in text.content or _has_empty_lines(text.content) or not _is_strict(text.content):
        return _read_records(text, chunk_size)
    return _read_strict(text, chunk_size)


_UTF8_MARK = b"\xef\xbb\xbf"
_BYTE_ORDER_MARKS = {
    _UTF8_MARK: "utf-8",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_CP1252 = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
"""Byte → character, for the bytes in which cp1252 differs from latin-1. The five unassigned ones remain control
characters, as in browsers."""


class _Utf8(NamedTuple):
    """The content of a file, re-encoded to UTF-8 without byte order mark."""

    content: bytes
    encoding: str
    cp1252_lines: Sequence[int] = ()


def _as_utf8(raw: bytes) -> _Utf8:
    """Re-encode content to UTF-8, without byte order mark. Bytes that are not UTF-8 are decoded as Windows cp1252.

    A stray byte must not change how the rest of the file is decoded: only invalid bytes are decoded as cp1252. If the
    file contains no non-ASCII character in UTF-8, and no mark, its encoding is cp1252.
    """
    has_mark = raw.startswith(_UTF8_MARK)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8")
    if encoding == "utf-16":
        raw = raw[: len(raw) // 2 * 2]  # the file may end within a character
    if encoding == "utf-8":
        while raw.startswith(_UTF8_MARK):
            raw = raw.removeprefix(_UTF8_MARK)
        if _is_utf8(raw):
            return _Utf8(raw, encoding)
    try:
        return _Utf8(raw.decode(encoding).lstrip("\ufeff").encode(), encoding)
    except UnicodeError:
        if encoding != "utf-8":
            return _Utf8(_cp1252(raw).encode(), "cp1252")
        lines = enumerate(raw.splitlines(), start=1)
        odd = [number for number, line in lines if line.decode(errors="ignore").encode() != line]
        is_utf8 = has_mark or not raw.decode(errors="ignore").isascii()
        return _Utf8(raw.decode(errors=_CP1252_FOR_INVALID).encode(), "utf-8" if is_utf8 else "cp1252", odd)


def _is_utf8(raw: bytes) -> bool:
    try:
        pa.array([raw], pa.large_binary()).cast(pa.large_string())  # Python would need up to four bytes per character
    except pa.ArrowInvalid:
        return False
    return True


def _cp1252(raw: bytes) -> str:
    return raw.decode("latin-1").translate(_CP1252)


def _decode_invalid_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _cp1252(error.object[error.start : error.end]), error.end


_CP1252_FOR_INVALID = "cp1252_for_invalid"
codecs.register_error(_CP1252_FOR_INVALID, _decode_invalid_bytes)


def _has_empty_lines(content: bytes) -> bool:
    gaps = (b"\n\n", b"\n\r", b"\r\r") if b"\r" in content else (b"\n\n",)
    return content.startswith((b"\n", b"\r")) or any(gap in content for gap in gaps)


_QUOTE, _LF, _CR = b'"\n\r'
_BESIDE_A_QUOTE = np.zeros(256, dtype=bool)
_BESIDE_A_QUOTE[list(b',\r\n"')] = True


def _is_strict(content: bytes) -> bool:
    """Return whether no cell contains a line end, and all quotes are where RFC 4180 allows them.

    They are allowed beside a comma or line end, and doubled within a cell: such a quote counts as one that closes the
    cell and one that opens it again.
    """
    if b'"' not in content:
        return True
    characters = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(characters == _QUOTE)
    line_ends = np.flatnonzero((characters == _LF) | (characters == _CR))
    if len(quotes) % 2 or (np.searchsorted(quotes, line_ends) % 2).any():
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = characters[opening[opening > 0] - 1]
    after = characters[closing[closing < len(content) - 1] + 1]
    return bool(_BESIDE_A_QUOTE[before].all() and _BESIDE_A_QUOTE[after].all())


def _read_strict(text: _Utf8, chunk_size: int | None) -> Iterator[CsvText]:
    """Yield chunks of content that has no NUL bytes, empty lines, misplaced quotes or cells with line ends.

    Fast, because each line is a record, which can be invalid only by its number of fields.
    """
    content = text.content
    start = next(_cuts(content, 0, 1), 0)
    header_text = content[:start].decode()
    header = _next_record(header_text, 0, 0)[0] if header_text else []
    line = 2
    if start == len(content):
        yield CsvText(text_table(header, []), [], pa.array([], pa.int64()), text.encoding, 0, text.cp1252_lines)
    for end in _cuts(content, start, chunk_size):
        chunk = _read_strict_chunk(content[start:end], header, line)
        yield chunk._replace(encoding=text.encoding, cp1252_lines=text.cp1252_lines)
        start, line = end, line + chunk.records


def _cuts(content: bytes, start: int, chunk_size: int | None) -> Iterator[int]:
    """Yield the end positions of chunks: each after a line end, the last one at the end of the content."""
    while start < len(content):
        line_end = _LINE_END_BYTES.search(content, start + chunk_size) if chunk_size else None
        start = line_end.end() if line_end else len(content)
        yield start


def _read_strict_chunk(content: bytes, header: Sequence[str], first_line: int) -> CsvText:
    """Read a chunk of whole lines, each of which is a record."""
    ragged: list[pa.csv.InvalidRow] = []

    def skip(row: pa.csv.InvalidRow) -> Literal["skip"]:
        ragged.append(row)
        return "skip"

    body = _UTF8_MARK + content if content.startswith(_UTF8_MARK) else content  # Arrow removes one; here it is data
    positions = [str(position) for position in range(len(header))]
    table = pa.csv.read_csv(
        pa.BufferReader(body),
        read_options=pa.csv.ReadOptions(
            column_names=positions,
            use_threads=False,  # days run in parallel; and row numbers are only known without threads
            block_size=len(body),  # a cell may be as long as the chunk
        ),
        parse_options=pa.csv.ParseOptions(
            quote_char='"' if b'"' in content else False, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(positions, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            check_utf8=False,
        ),
    ).rename_columns(header)

    count = table.num_rows + len(ragged)
    is_row = np.ones(count, dtype=bool)
    is_row[[row.number - 1 for row in ragged]] = False
    lines = first_line + np.arange(count)
    rejected = [
        _wrong_field_count(int(line), row.actual_columns, len(header), row.text.rstrip("\r\n"))
        for line, row in zip(lines[~is_row], ragged, strict=True)
    ]
    return CsvText(table, rejected, pa.array(lines[is_row]), "utf-8", _count_lines(content), ())


def _count_lines(content: bytes) -> int:
    line_ends = content.count(b"\n")
    if b"\r" in content:
        line_ends += content.count(b"\r") - content.count(b"\r\n")
    return line_ends + (not content.endswith((b"\n", b"\r")))


_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(
    r'(?:"(?P<quoted>(?:[^"]|"")*+)"(?P<trailing>[^,\r\n]*+)'  # trailing: invalid, but part of the record
    r"|(?P<plain>[^,\r\n]*+))(?P<end>,|\r\n|\r|\n|\Z)"
)


def _read_records(file: _Utf8, chunk_size: int | None) -> Iterator[CsvText]:
    """Yield chunks of any content, read record by record. Slow."""
    content = file.content.decode()
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    rejected: list[RejectedLine] = []
    position, line, chunks = 0, 1, 0
    while position < len(content) or not chunks:
        fields, end, fault = _next_record(content, position, len(header or ()))
        text = content[position:end].rstrip("\r\n")
        if fault == UNCLOSED:
            unreadable = enumerate(_LINE_END.split(content[position:]), start=line)
            reason = f"{fault} (record of line {line})"
            rejected.extend(RejectedLine(number, reason, text) for number, text in unreadable if text)
        elif text and header is not None:
            if "\0" in text or fault:
                rejected.append(RejectedLine(line, fault or "NUL byte", text))
            elif len(fields) == len(header):
                rows.append(fields)
                lines.append(line)
            else:
                rejected.append(_wrong_field_count(line, len(fields), len(header), text))
        if text and header is None:
            header = fields
        line += len(_LINE_END.findall(content, position, end))
        position = end
        is_full = chunk_size and position >= (chunks + 1) * chunk_size and header is not None
        if is_full or (position == len(content) and (rows or rejected or not chunks)):
            records = len(rows) + len(rejected)
            table = text_table(header or [], rows)
            yield CsvText(table, rejected, pa.array(lines, pa.int64()), file.encoding, records, file.cp1252_lines)
            rows, lines, rejected = [], [], []
            chunks = max(1, position // chunk_size) if chunk_size else 1


TOO_FEW_FIELDS = "too few fields"
UNCLOSED = "quote is never closed"
REASONS_OF_CUT_RECORDS = (TOO_FEW_FIELDS, UNCLOSED)
"""How the reason starts for which the last record of an incomplete file is rejected."""
FEWEST_COLUMNS = 6
"""Minimum number of columns in a file for recognizing records, and footers, by the number of separators in a line."""


def _next_record(content: str, start: int, columns: int) -> tuple[list[str], int, str]:
    """Read one record. Returns its fields, the start of the next record, and the reason why it is invalid, or `""`.

    A quote that is not closed on its line opens a cell with line ends, unless one of the next lines, up to that of the
    next quote, has as many commas as a record, and either this line has them, too, or the record would be invalid: then
    it is a stray quote, and the record is invalid and ends with its line. Other invalid records end where common CSV
    readers end them, so that the next one starts in the right place.

    Args:
        columns: number of columns of the file; stray quotes are found only from `FEWEST_COLUMNS` on.
    """
    line = _LINE.match(content, start)
    assert line is not None  # noqa: S101 - it matches at the end, too
    if '"' not in line[0]:
        return line[0].rstrip("\r\n").split(","), line.end(), ""
    if columns >= FEWEST_COLUMNS and _quoted_record(line[0].rstrip("\r\n"), 0)[2] == UNCLOSED:
        is_full = line[0].count(",") >= columns - 1
        if _has_record_before_quote(content, line.end(), columns) and (
            is_full or not _is_valid_record(content, start, columns)
        ):
            return [line[0]], line.end(), "quote is not closed on its line"
    return _quoted_record(content, start)


def _has_record_before_quote(content: str, start: int, columns: int) -> bool:
    """Return whether a line, up to that of the next quote, has as many commas as a record."""
    for line in _LINE.finditer(content, start):
        if line[0].count(",") >= columns - 1:
            return True
        if '"' in line[0]:
            return False
    return False


def _is_valid_record(content: str, start: int, columns: int) -> bool:
    """Return whether the record has the given number of fields, and no misplaced quote; without reading further."""
    for number, field in enumerate(_FIELD.finditer(content, start), start=1):
        if number > columns or field["trailing"] or '"' in (field["plain"] or ""):
            return False
        if field["end"] != ",":
            return number == columns
    return False


def _quoted_record(content: str, start: int) -> tuple[list[str], int, str]:
    """Read one record as common CSV readers do. Returns its fields, its end, and the reason why it is invalid, or `""`.

    If a quote is never closed, the fields are those of the first line, split at each comma.
    """
    fields: list[str] = []
    fault = ""
    for field in _FIELD.finditer(content, start):
        if field["quoted"] is not None:
            fields.append(field["quoted"].replace('""', '"') + field["trailing"])
            fault = fault or ("text after a closing quote" if field["trailing"] else "")
        elif field["plain"].startswith('"'):
            break
        else:
            fields.append(field["plain"])
            fault = fault or ("quote inside an unquoted field" if '"' in field["plain"] else "")
        if field["end"] != ",":
            return fields, field.end(), fault
    return _LINE_END.split(content[start:], maxsplit=1)[0].split(","), len(content), UNCLOSED


def _wrong_field_count(line: int, actual: int, expected: int, text: str) -> RejectedLine:
    reason = f"{TOO_FEW_FIELDS if actual < expected else 'too many fields'}: {actual} instead of {expected}"
    value = text.strip(',"' + BLANKS)
    has_values = actual > 1 and "," in value
    is_other = has_values or value.startswith("<") or max(map(value.count, ",;\t|")) >= FEWEST_COLUMNS - 1
    if actual < expected >= FEWEST_COLUMNS and not is_other:
        reason = FOOTER if value else BLANK_ROW
    return RejectedLine(line, reason, text)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> pa.Table:
    """Return rows as an Arrow table of strings; empty cells become NULL."""
    columns = zip(*rows, strict=True) if rows else [() for _ in header]
    arrays = [pa.array([cell or None for cell in column], pa.string()) for column in columns]
    return pa.Table.from_arrays(arrays, names=list(header))
