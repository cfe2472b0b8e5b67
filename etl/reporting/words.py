"""Format numbers, shares, days and tables as text for readers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd


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


def counted(count: float, thing: str, things: str | None = None) -> str:
    """Return a count with its noun, as in `1 lead` or `4,364 leads`."""
    number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.1f}"
    return f"{number} {thing if count == 1 else things or thing + 's'}"


def share(part: float, whole: float) -> str:
    """Format a share in percent. Only exactly 0 and 1 become 0.0 % and 100.0 %. Return `none` if `whole` is 0."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def day(moment: pd.Timestamp | date) -> str:
    """Format a day, as in `9 October 2024`, in English in any locale."""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
