"""Tables of report and notebooks: rows as text, numbers to the right, and all of them as CSV."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl.reporting.words import formatted


@dataclass(frozen=True)
class Table:
    """Rows as text."""

    caption: str
    headings: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]


def table_of(caption: str, rows: pd.DataFrame, most_rows: int, *, unchanged: bool = False) -> Table:
    """Format the first rows.

    Args:
        unchanged: show names of columns and values as they are.
    """
    first = rows.head(most_rows)
    shown = first.astype(object).where(first.notna(), "") if unchanged else formatted(first)
    return Table(
        f"{caption} The first {most_rows} of {len(rows):,} rows.".strip() if len(rows) > most_rows else caption,
        list(shown.columns),
        [_is_number(shown.iloc[:, position]) for position in range(shown.shape[1])],
        [[str(cell) for cell in row] for row in shown.to_numpy()],
    )


def _is_number(cells: pd.Series) -> bool:
    """Return whether all cells are numbers, as they are shown, or empty: `3,599`, `< 0.1 %`."""
    filled = cells[cells != ""].astype(str)
    return bool(len(filled) and filled.str.fullmatch(r"[<>]? ?-?\d[\d,.]*( %)?").all())


def csv_uri(rows: pd.DataFrame) -> str:
    """Return all rows as a CSV file in a data URI: values as they are, days as `2024-10-01`, NULL as an empty cell."""
    text = rows.map(_without_formula).to_csv(index=False)
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode('utf-8-sig')).decode()}"


def _without_formula(cell: Any) -> Any:
    """Quote text that a spreadsheet would execute: the text is of the CRM."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def render_template(name: str, **values: Any) -> str:
    """Fill a template of this folder. Values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)
