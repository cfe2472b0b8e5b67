"""Tables of the report and the notebooks: format rows as text, write all rows as CSV, render templates."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl.reporting.words import share


@dataclass(frozen=True)
class Table:
    """A table in which every cell is text, ready to be rendered."""

    caption: str
    headings: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]


def table_of(caption: str, rows: pd.DataFrame, most_rows: int, *, unchanged: bool = False) -> Table:
    """Format the first `most_rows` rows as a table. If rows are left out, the caption says so.

    Args:
        unchanged: show column names and values without formatting.
    """
    first = rows.head(most_rows)
    shown = first.astype(object).where(first.notna(), "") if unchanged else formatted(first)
    return Table(
        f"{caption} The first {most_rows} of {len(rows):,} rows.".strip() if len(rows) > most_rows else caption,
        list(shown.columns),
        [_is_number(cells) for _, cells in shown.items()],
        [[str(cell) for cell in row] for row in shown.to_numpy()],
    )


def formatted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with every cell formatted as text. NULL becomes an empty cell.

    Rates and shares (0 to 1), recognised by their column names, become percentages. Underscores in column names become
    blanks.
    """
    shown = {str(name): rows[name].map(_format_of(str(name), rows[name]), na_action="ignore") for name in rows.columns}
    table = pd.DataFrame(shown, dtype=object)
    table = table.where(table.notna(), "")
    return table.rename(columns=lambda name: str(name).strip("_").replace("_", " "))


def _format_of(name: str, values: pd.Series[Any]) -> Callable[[Any], str]:
    if pd.api.types.is_datetime64_any_dtype(values):
        return lambda moment: f"{moment:%Y-%m-%d}"
    if name.endswith(("rate", "share")) or name.startswith("of_"):
        return lambda part: share(part, 1)
    if pd.api.types.is_float_dtype(values):
        return lambda number: f"{number:,.1f}"
    if pd.api.types.is_integer_dtype(values):
        return lambda number: f"{number:,}"
    return str


def _is_number(cells: pd.Series) -> bool:
    """Return whether all filled cells are numbers, such as `3,599` or `< 0.1 %`; False if no cell is filled."""
    filled = cells[cells != ""].astype(str)
    return bool(len(filled) and filled.str.fullmatch(r"[<>]? ?-?\d[\d,.]*( %)?").all())


def csv_uri(rows: pd.DataFrame) -> str:
    """Return all rows as CSV in a data URI.

    Values are not formatted: days are `2024-10-01`, NULL is an empty cell. Text that a spreadsheet would execute as a
    formula gets an apostrophe in front.
    """
    text = rows.map(_without_formula).to_csv(index=False)
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode('utf-8-sig')).decode()}"


def _without_formula(cell: Any) -> Any:
    """Add an apostrophe to text that a spreadsheet would execute as a formula. Text from the CRM is not trusted."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def render_template(name: str, **values: Any) -> str:
    """Render a Jinja template of this folder. Values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)
