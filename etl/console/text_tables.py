"""Write tables to standard output. On a terminal, long cells wrap to fit its width; elsewhere a row is one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etl.console.output import Line, is_terminal, json_handler, write_lines

WIDEST_LINE = 10_000
"""Width of output that is not a terminal, in characters: large, so that rows do not wrap, and `grep` finds them."""


def write_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table under its title, or `none` if it has no rows. Numbers are aligned right; None is an empty cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        write_lines([Line(), Line(" none", f"{title}:", "bold")], sys.stdout)
        return
    on_terminal = is_terminal(sys.stdout)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, heading in enumerate(headings):
        is_number = all(isinstance(row[position], int | float | None) for row in rows)
        table.add_column(heading, header_style="bold", justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_as_text(cell)) for cell in row))
    console = Console(
        file=sys.stdout,
        width=None if on_terminal else WIDEST_LINE,
        force_terminal=on_terminal,
        color_system="auto" if on_terminal else None,
    )
    write_lines([Line(), Line(label=title, style="bold")], sys.stdout)
    with console.capture() as capture:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    sys.stdout.flush()


def write_record(
    title: str,
    summary: str,
    event: str,
    record: Mapping[str, Any],
    tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[object]]]],
    notes: Iterable[str] = (),
) -> None:
    """Write a record: `record` as the fields of one event if the output is JSON, else title, summary, tables, notes."""
    if handler := json_handler():
        handler.echo(": ".join(filter(None, (title, summary))), event, **record)
        return
    write_lines([Line(), Line(label=title, style="bold"), *[Line(summary)] * bool(summary)], sys.stdout)
    for table in tables:
        write_table(*table)
    for note in notes:
        write_lines([Line(), Line(note, "note: ", "bold yellow")], sys.stdout)


def _as_text(cell: object) -> str:
    """Return the text of a cell as one line: None as empty, integers with commas, unprintable characters escaped."""
    if cell is None:
        return ""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(cell))
