"""Read any bytes with `read_csv_text`: nothing raises, and every record is accepted as in RFC 4180, or rejected."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from etl.utils import csv_reader
from etl.utils.csv_reader import CsvText, read_csv_chunks, read_csv_text

LINE_END = re.compile(r"\r\n|\r|\n")
MANY = settings(max_examples=400, deadline=None, derandomize=True)

cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
special_text = st.text(st.sampled_from('ab,"\n\r \t;é\u2028\x1c\ufeff😀'), max_size=6)
tables = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(cells | special_text, min_size=width, max_size=width), min_size=1, max_size=6)
)
malformed = st.text(st.sampled_from('ab,,"\n\n\r\0'), max_size=40)


def rows_of(text: CsvText) -> list[list[str]]:
    columns = [[cell or "" for cell in column.to_pylist()] for column in text.table.columns]
    return [list(text.table.column_names), *map(list, zip(*columns, strict=True))]


def written(table: list[list[str]], **dialect: object) -> str:
    sink = io.StringIO()
    csv.writer(sink, **dialect).writerows(table)  # type: ignore[arg-type]
    return sink.getvalue()


@MANY
@given(tables, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_fully_quoted_files_are_read_back_exactly(table: list[list[str]], line_end: str, final_line_end: bool) -> None:
    content = written(table, quoting=csv.QUOTE_ALL, lineterminator=line_end)
    content = content if final_line_end else content.removesuffix(line_end)
    text = read_csv_text(content.encode())
    assert (rows_of(text), text.rejected) == (table, [])


@MANY
@given(tables)
def test_minimally_quoted_files_are_read_back_exactly(table: list[list[str]]) -> None:
    assume(not table[0][0].startswith("\ufeff"))  # would be read as a byte order mark
    content = written(table, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    text = read_csv_text(b"\xef\xbb\xbf" + content.encode())
    assert (rows_of(text), text.rejected) == (table, [])


@MANY
@given(tables, st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_byte_order_mark_determines_the_encoding(table: list[list[str]], encoding: str) -> None:
    content = written(table, quoting=csv.QUOTE_ALL)
    text = read_csv_text(content.encode(encoding))
    assert (rows_of(text), text.rejected) == (table, [])


@MANY
@given(malformed)
@example('a\n"b\n1\n')
@example('a,b\n"x"y,"\n1,2\nz"\n3,4\n')
@example('"a\n"b"\n')
def test_every_line_belongs_to_a_row_or_to_a_rejected_record(content: str) -> None:
    text = read_csv_text(content.encode())
    starts = sorted([*text.lines.to_pylist(), *(line.line for line in text.rejected)])
    assert len(set(starts)) == len(starts)
    assert len(text.lines) == text.table.num_rows
    assert text.records == len(starts), "counted independently"
    lines = LINE_END.split(content)
    for line in text.rejected:
        assert LINE_END.split(line.text)[0] == lines[line.line - 1]
    header_line = next((number for number, line in enumerate(lines, start=1) if line), len(lines) + 1)
    records = [(header_line, ",".join(text.table.column_names))]
    records += zip(text.lines.to_pylist(), (",".join(row) for row in rows_of(text)[1:]), strict=True)
    records += [(line.line, line.text) for line in text.rejected]
    claimed = {start + offset for start, cells in records for offset in range(1 + len(LINE_END.findall(cells)))}
    assert [line for number, line in enumerate(lines, start=1) if line and number not in claimed] == []


@MANY
@given(malformed.map(lambda content: content.replace("\0", "")))
@example('a,b\n"x"y,"\n1,2\nz"\n3,4\n')
@example('a,b\n1,x"y"\n2,"3\n')
def test_accepted_records_equal_those_of_the_csv_module(content: str) -> None:
    text = read_csv_text(content.encode())
    accepted = dict(zip(text.lines.to_pylist(), rows_of(text)[1:], strict=True))
    ends = [match.end() for match in LINE_END.finditer(content)]
    for line, row in accepted.items():
        rest = content[[0, *ends][line - 1] :]
        assert next(csv.reader(io.StringIO(rest, newline=""))) == row
    if not any("closed" in line.reason for line in text.rejected):
        reader = csv.reader(io.StringIO(content, newline=""))
        records = {}
        start = 1
        for record in reader:
            records |= {start: record} if record else {}
            start = reader.line_num + 1
        header = min(records, default=0)
        assert records.keys() - {header} == (accepted.keys() | {line.line for line in text.rejected}) - {header}


@MANY
@given(malformed)
def test_records_refused_by_the_strict_csv_module_are_rejected(content: str) -> None:
    text = read_csv_text(content.encode())
    accepted = set(text.lines.to_pylist())
    lines = content.splitlines(keepends=True)
    for number in accepted:
        record = "".join(lines[number - 1 :])
        assert next(csv.reader(io.StringIO(record, newline=""), strict=True))


@MANY
@given(st.binary(max_size=60))
def test_reading_any_bytes_raises_nothing(raw: bytes) -> None:
    text = read_csv_text(raw)
    assert text.table.num_rows == len(text.lines)
    assert text.table.num_rows + len(text.rejected) == text.records


@MANY
@given(malformed | tables.map(lambda table: written(table, quoting=csv.QUOTE_MINIMAL)))
@example('a,b\r\n"1\r\n2",3\r4\n"5",6\n')
@example("a\n\ufeff1\n")
def test_fast_and_careful_reader_give_equal_results(content: str) -> None:
    raw = content.encode()
    if "\0" in content or csv_reader._has_empty_lines(raw) or not csv_reader._is_strict(raw):
        return
    text = csv_reader._Utf8(raw, "utf-8")
    (fast,) = csv_reader._read_strict(text, None)
    (careful,) = csv_reader._read_records(text, None)
    assert rows_of(fast) == rows_of(careful)
    assert (fast.rejected, fast.lines.to_pylist()) == (careful.rejected, careful.lines.to_pylist())
    assert fast.records == careful.records


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('a,b\n1,2\n3,"x"y\n', "text after a closing quote"),
        ('a,b\n1,2\n3,x"y\n', "quote inside an unquoted field"),
        ("a,b\n1,2\n3\n", "too few fields: 1 instead of 2"),
        ("a,b\n1,2\n3,4,\n", "too many fields: 3 instead of 2"),
        ("a,b\n1,2\n3,\0\n", "NUL byte"),
        ('a,b\n1,2\n3,"x\n', "quote is never closed (record of line 3)"),
    ],
)
def test_rejected_record_has_line_reason_and_text(content: str, reason: str) -> None:
    text = read_csv_text(content.encode())
    assert rows_of(text)[1:] == [["1", "2"]]
    (rejected,) = text.rejected
    assert (rejected.line, rejected.reason, rejected.text) == (3, reason, content.split("\n")[2])


def test_each_line_after_an_unclosed_quote_is_rejected_separately() -> None:
    text = read_csv_text(b'a,b\n1,2\n"3,4\n5,6\n\n7,8\n')
    assert rows_of(text)[1:] == [["1", "2"]]
    assert [(line.line, line.text) for line in text.rejected] == [(3, '"3,4'), (4, "5,6"), (6, "7,8")]


# --- Stray quotes: FEWEST_COLUMNS columns or more ---------------------------------------------------------------------

HEADER = "a,b,c,d,e,f\n"


@MANY
@given(st.data())
def test_stray_quotes_reject_only_lines_with_a_quote(data: st.DataObject) -> None:
    width = csv_reader.FEWEST_COLUMNS
    lines = [",".join(f"{line}.{column}" for column in range(width)) for line in range(1, 9)]
    for victim in data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)):
        place = data.draw(st.integers(0, len(lines[victim])))
        lines[victim] = lines[victim][:place] + '"' + lines[victim][place:]
    text = read_csv_text("\n".join(lines).encode())
    accepted = dict(zip(text.lines.to_pylist(), rows_of(text)[1:], strict=True))
    rejected = {line.line for line in text.rejected}
    assert accepted.keys() | rejected == set(range(2, 9))
    assert accepted == {number: next(csv.reader([lines[number - 1]])) for number in accepted}
    assert all('"' in lines[number - 1] for number in rejected)


@pytest.mark.parametrize("between", [0, 1, 100])
@pytest.mark.parametrize("end", ['x"', '"x', '"x, y"'])
def test_stray_quote_does_not_make_other_lines_part_of_a_cell(between: int, end: str) -> None:
    sound = "1,2,3,4,5,6\n" * between
    text = read_csv_text(f'{HEADER}1,2,3,4,"x,6\n{sound}1,2,3,4,{end},6\n7,8,9,10,11,12\n'.encode())
    is_sound = end == '"x, y"'
    assert text.table.num_rows == between + 1 + is_sound
    assert [line.line for line in text.rejected] == ([2] if is_sound else [2, 3 + between])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("line_after", ["", "1,2", "1,2,3,4,5,6"])
def test_stray_quote_is_found_before_blank_and_incomplete_lines(line_after: str, line_end: str) -> None:
    lines = [HEADER.strip(), '1,2,3,4,"x,6', line_after, *["1,2,3,4,5,6"] * 3, '1,2,3,4,x",6', "7,8,9,10,11,12"]
    text = read_csv_text(line_end.join(lines).encode())
    assert text.table.num_rows == 4 + (line_after == "1,2,3,4,5,6")
    reasons = [line.reason for line in text.rejected]
    assert reasons[0] == "quote is not closed on its line"
    assert reasons[-1] == "quote inside an unquoted field"
    assert len(reasons) == 2 + (line_after == "1,2")


@pytest.mark.parametrize("line", ['1,2,"x', '"Total: 10', '1,2,"x,y'])
@pytest.mark.parametrize("next_quote", ["", '1,2,3,4,5,"x, y"\n', '1,"2",3,4,5,6\n'])
def test_quote_in_a_short_line_makes_no_other_line_part_of_its_cell(line: str, next_quote: str) -> None:
    sound = "1,2,3,4,5,6\n" * 100
    text = read_csv_text(f"{HEADER}{line}\n{sound}{next_quote}{sound}".encode())
    assert text.table.num_rows == 200 + bool(next_quote)
    assert [(rejected.line, rejected.text.strip()) for rejected in text.rejected] == [(2, line)]


def test_last_cell_may_have_line_ends_and_blank_lines() -> None:
    text = read_csv_text(f'{HEADER}1,2,3,4,5,"x\n\ny"\n1,2,3,4,5,6\n'.encode())
    assert (rows_of(text)[1:], text.rejected) == ([["1", "2", "3", "4", "5", "x\n\ny"], list("123456")], [])


def test_cell_with_line_ends_may_contain_a_record() -> None:
    text = read_csv_text(f'{HEADER}1,2,"note:\n1,2,3,4,5,6\nend",4,5,6\n'.encode())
    assert (rows_of(text)[1:], text.rejected) == ([["1", "2", "note:\n1,2,3,4,5,6\nend", "4", "5", "6"]], [])


def test_stray_quotes_on_all_lines_are_found_without_scanning_the_file_for_each() -> None:
    text = read_csv_text(HEADER.encode() + b'"1","2","3","4","5","6\n' * 20_000)
    assert (text.table.num_rows, len(text.rejected)) == (0, 20_000)


def test_file_not_in_unicode_is_read_as_cp1252() -> None:
    text = read_csv_text("a\nZürich €\n".encode("cp1252"))
    assert (text.encoding, rows_of(text)) == ("cp1252", [["a"], ["Zürich €"]])


def test_cells_of_a_megabyte_are_accepted() -> None:
    long = "x" * 1_000_000
    for content in (f"a,b\n{long},2\n", f'a,b\n"{long}",2\n', f'a,b\n"{long}\n\n",2\n'):
        text = read_csv_text(content.encode())
        assert (text.table.num_rows, text.rejected) == (1, [])


@MANY
@given(malformed | tables.map(lambda table: written(table, quoting=csv.QUOTE_MINIMAL)), st.integers(1, 12))
@example('a,b\n"1\n2",3\n4,5\n', 1)
@example('a\n1\n\n2\n"3', 1)
def test_chunks_together_equal_the_whole_file(content: str, chunk_size: int) -> None:
    whole = read_csv_text(content.encode())
    chunks = list(read_csv_chunks(content.encode(), chunk_size))
    assert [row for chunk in chunks for row in rows_of(chunk)[1:]] == rows_of(whole)[1:]
    assert {tuple(chunk.table.column_names) for chunk in chunks} == {tuple(whole.table.column_names)}
    assert [line for chunk in chunks for line in chunk.lines.to_pylist()] == whole.lines.to_pylist()
    assert [line for chunk in chunks for line in chunk.rejected] == whole.rejected
    assert sum(chunk.records for chunk in chunks) == whole.records


def test_chunks_have_the_requested_size_up_to_the_end_of_a_record() -> None:
    pair = b'1,"x,y"\n2,z\n'
    content = b"a,b\n" + pair * 1000
    sizes = [len(chunk.lines) * len(pair) / 2 for chunk in read_csv_chunks(content, 1000)]
    assert len(sizes) == 12
    assert all(1000 - len(pair) <= size <= 1000 + len(pair) for size in sizes[:-1]), sizes
