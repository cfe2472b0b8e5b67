"""Read CSV files of every layout: cells stay exact, and each line is accounted for."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from etl.utils.csv_reader import CsvText, RejectedLine, read_csv_text

if TYPE_CHECKING:
    pass

DETERMINISTIC = settings(deadline=None, derandomize=True, database=None)


def rows_of(text: CsvText) -> list[tuple[str | None, ...]]:
    return list(zip(*(column.to_pylist() for column in text.table.columns), strict=True))


# --- Lines and cells, with or without quotes in the file --------------------------------------------------------------

Read = Callable[[str], CsvText]


@pytest.fixture(params=["without quotes", "with quotes"])
def read(request: pytest.FixtureRequest) -> Read:
    """Read a file whose header starts with `a`: unchanged, and with that `a` in quotes (another code path)."""

    def read(content: str) -> CsvText:
        assert content.startswith("a")
        return read_csv_text((content if request.param == "without quotes" else f'"a"{content[1:]}').encode())

    return read


def test_cells_keep_their_exact_text(read: Read) -> None:
    cells = ("02139", "NA", "nan", "NULL", "True", "1e3", "  Reno  ", "01/02/2023  5:30PM", "'", "Ñuñoa", "\U0001f3e0")
    for cell in cells:
        assert rows_of(read(f"a,b\n{cell},{cell}\n")) == [(cell, cell)]


def test_empty_cell_is_null_and_blank_cell_is_text(read: Read) -> None:
    assert rows_of(read("a,b,c\n,x,\n,,\n , ,\t\n")) == [(None, "x", None), (None, None, None), (" ", " ", "\t")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["\n", ""])
def test_every_line_ending_is_read_and_last_line_may_have_none(read: Read, line_end: str, last: str) -> None:
    text = read(line_end.join(["a,b", "1,2", "3,4"]) + last.replace("\n", line_end))
    assert text.table.column_names == ["a", "b"]
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.lines.to_pylist() == [2, 3]
    assert text.rejected == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_with_wrong_number_of_fields_is_rejected_with_its_text(read: Read, line_end: str) -> None:
    text = read(line_end.join(["a,b", "1,2", "too few", "3,4", "too,many,é", ",,", "5,6", "last"]))
    assert rows_of(text) == [("1", "2"), ("3", "4"), ("5", "6")]
    assert text.lines.to_pylist() == [2, 4, 7]
    assert text.rejected == [
        RejectedLine(3, "too few fields: 1 instead of 2", "too few"),
        RejectedLine(5, "too many fields: 3 instead of 2", "too,many,é"),
        RejectedLine(6, "too many fields: 3 instead of 2", ",,"),
        RejectedLine(8, "too few fields: 1 instead of 2", "last"),
    ]


def test_file_of_ragged_lines_has_columns_and_no_rows(read: Read) -> None:
    text = read("a,b\n1\n2\n")
    assert text.table.schema == pa.schema({"a": pa.string(), "b": pa.string()})
    assert rows_of(text) == []
    assert [line.line for line in text.rejected] == [2, 3]


def test_empty_lines_are_counted_as_lines_but_not_as_records(read: Read) -> None:
    text = read("a,b\n\n1,2\r\n\r\n\r\n3,4\r\rx\n\n")
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.lines.to_pylist() == [3, 6]
    assert [(line.line, line.text) for line in text.rejected] == [(8, "x")]


def test_empty_lines_before_header_are_skipped() -> None:
    text = read_csv_text(b"\r\n\na,b\n1,2\n")
    assert text.table.column_names == ["a", "b"]
    assert text.lines.to_pylist() == [4]


def test_unicode_separators_do_not_end_a_line(read: Read) -> None:
    cell = "x\v\f\x1c\x1d\x1e\x85\u2028\u2029y"
    assert rows_of(read(f"a,b\n{cell},1\n")) == [(cell, "1")]


def test_file_with_one_column_is_read(read: Read) -> None:
    text = read("a\n1\n2\n\n3,4\n")
    assert rows_of(text) == [("1",), ("2",)]
    assert [line.line for line in text.rejected] == [5]


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\r\n\r\n"])
def test_header_without_rows_gives_columns_without_rows(read: Read, content: str) -> None:
    text = read(content)
    assert text.table.schema == pa.schema({"a": pa.string(), "b": pa.string()})
    assert (text.table.num_rows, text.rejected, len(text.lines)) == (0, [], 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_empty_file_gives_neither_columns_nor_rows(content: bytes) -> None:
    text = read_csv_text(content)
    assert (text.table.column_names, text.table.num_rows, text.rejected) == ([], 0, [])


def test_cell_of_a_megabyte_is_read(read: Read) -> None:
    cell = "x" * 2**20
    assert rows_of(read(f"a,b\n1,{cell}\n{cell},2\n")) == [("1", cell), (cell, "2")]


def test_duplicate_column_names_keep_separate_values(read: Read) -> None:
    text = read("a,b,b\n1,2,3\n")
    assert text.table.column_names == ["a", "b", "b"]
    assert rows_of(text) == [("1", "2", "3")]


# --- Quotes -----------------------------------------------------------------------------------------------------------


def test_quoted_cells_may_contain_line_endings_delimiters_and_quotes() -> None:
    text = read_csv_text(b'"a ""x""","b,c"\r\n"1\r\n2","3,""4"""\r\n"","NA"\r\n5,"\n"\r\n')
    assert text.table.column_names == ['a "x"', "b,c"]
    assert rows_of(text) == [("1\r\n2", '3,"4"'), (None, "NA"), ("5", "\n")]


def test_line_number_is_the_first_line_of_the_record() -> None:
    text = read_csv_text(b'a,b\n1,"x\n\ny"\n2,z\n3\n"\r\n",4\n5,6\n')
    assert text.lines.to_pylist() == [2, 5, 7, 9]
    assert [(line.line, line.text) for line in text.rejected] == [(6, "3")]


def test_rejected_record_of_several_lines_keeps_all_its_text() -> None:
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
def test_misplaced_quote_rejects_only_its_own_line(line: str, reason: str) -> None:
    text = read_csv_text(f'a,b\r\n1,"2"\r\n{line}\r\n3,4\r\n'.encode())
    assert rows_of(text) == [("1", "2"), ("3", "4")]
    assert text.rejected == [RejectedLine(3, reason, line)]


@given(
    st.lists(st.lists(st.text("ab 1", min_size=1, max_size=3), min_size=1, max_size=4), min_size=1, max_size=8),
    st.data(),
)
@settings(DETERMINISTIC, max_examples=50)
def test_extra_quote_falsifies_no_row_and_loses_no_line(records: list[list[str]], data: st.DataObject) -> None:
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


def test_record_with_nul_byte_is_rejected() -> None:
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
        (b"\xff\xfe" + "a,b\nÑuñoa,“x”\n".encode("utf-16-le") + b"\n", "utf-16"),
        ("a,b\nÑuñoa,“x”\n".encode("cp1252"), "cp1252"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "utf-16-le", "utf-16-be", "truncated utf-16", "cp1252"],
)
def test_encoding_is_detected_from_the_bytes(content: bytes, encoding: str) -> None:
    text = read_csv_text(content)
    assert text.table.column_names == ["a", "b"]
    assert rows_of(text)[0] == ("Ñuñoa", "“x”")
    assert text.encoding == encoding


def test_stray_byte_behind_a_byte_order_mark_does_not_change_the_encoding() -> None:
    text = read_csv_text(b"\xef\xbb\xbfa,b\n1,2\n\xe9,3\n")
    assert rows_of(text) == [("1", "2"), ("é", "3")]
    assert (text.encoding, list(text.cp1252_lines)) == ("utf-8", [3])


def test_bytes_unassigned_in_cp1252_become_control_characters() -> None:
    text = read_csv_text(b"a,b\n\x81,\xe9\n")
    assert rows_of(text) == [("\x81", "é")]
    assert text.encoding == "cp1252"


def test_byte_order_mark_before_quoted_column_name_is_dropped() -> None:
    assert read_csv_text(b'\xef\xbb\xbf"a",b\n1,2\n').table.column_names == ["a", "b"]


# --- Generated files --------------------------------------------------------------------------------------------------

CELL_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
TRICKY_TEXT = st.text("a1 \",;\r\n'\t\\", max_size=6)
CELL_STRATEGY = st.one_of(CELL_TEXT, TRICKY_TEXT, st.sampled_from(["", "NA", "nan", "02139", '"', '""', "\n"]))
LINE_END = re.compile(r"\r\n|\r|\n")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Draw a header of any names, and rows with as many cells."""
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
@settings(DETERMINISTIC, max_examples=250)
def test_files_written_by_the_csv_module_are_read_back(
    table: tuple[list[str], list[list[str]]], quoting: Any, line_end: str, ends_in_line_end: bool
) -> None:
    header, rows = table
    assume(not header[0].startswith("\ufeff"))  # at the start of a file it is a byte order mark
    if line_end != "\r\n" and any(LINE_END.search(cell) for record in (header, *rows) for cell in record):
        quoting = csv.QUOTE_ALL  # the module quotes only its own line ending by default
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
@settings(DETERMINISTIC, max_examples=100)
def test_files_with_and_without_quotes_are_read_alike(records: list[tuple[list[str], str]]) -> None:
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
@settings(DETERMINISTIC, max_examples=250)
def test_any_bytes_are_read_and_every_record_has_its_own_line(content: bytes) -> None:
    text = read_csv_text(content)
    lines = [*text.lines.to_pylist(), *(line.line for line in text.rejected)]
    assert text.table.num_rows == len(text.lines)
    assert len(set(lines)) == len(lines)
    assert text.lines.to_pylist() == sorted(text.lines.to_pylist())
    assert all(number >= 1 for number in lines)
