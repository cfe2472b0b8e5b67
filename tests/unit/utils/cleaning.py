"""Build bronze rows and read the values that cleaning gives for them."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from etl.utils.frames import TEXT
from etl.utils.transform import clean_csv

Cases = dict[str | None, str | None]
"""Value in the file → clean value or reject reason."""

BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
BLANKS += "\u2028\u2029\u202f\u205f\u3000"
"""Every character that Unicode or Python calls white space."""

ORDINARY_ROW = {
    "ENTRYDATE": "02/05/2023",
    "LEADNUMBER": "289764",
    "email_hash": "3b7c33e8",
    "phone_hash": "6e534544",
    "CITY": "Bremerton",
    "STATE": "WA",
    "ZIP": "98311",
    "APPT_DATE": "12/13/2022  1:00PM",
    "Set": "1",
    "Demo": "0",
    "Dispo": "Data",
    "JOB_STATUS": "Open",
    "location": "Bremerton | WA",
    "_extraction_date": "2024-11-01",
    "_partition_date": "2024-10-06",
}


def bronze(*rows: dict[str, str | None]) -> pd.DataFrame:
    """Build rows of bronze.csv_snapshots; a row names the cells that matter, all other cells are ordinary."""
    return pd.DataFrame([ORDINARY_ROW | row for row in rows], columns=list(ORDINARY_ROW), dtype=TEXT)


def values(column: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else value for value in column]


def clean_value(silver_column: str, **cells: str | None) -> str | None:
    """Clean one row and return its value in a silver column."""
    clean = clean_csv(bronze(cells))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (1, 0, 0)
    return values(clean.rows[silver_column])[0]


def clean_values(column: str, silver_column: str, written: Iterable[str | None], **cells: str | None) -> Cases:
    """Clean one row per value of a bronze column; all values must be valid."""
    written = list(written)
    clean = clean_csv(bronze(*({**cells, column: value} for value in written)))
    assert clean.rejected["reason"].empty
    assert clean.separators == 0
    return dict(zip(written, values(clean.rows[silver_column]), strict=True))


def reject_reason(**cells: str | None) -> str:
    clean = clean_csv(bronze(cells))
    assert (len(clean.rows), len(clean.rejected), clean.separators) == (0, 1, 0)
    return clean.rejected["reason"][0]


def reject_reasons(column: str, written: Iterable[str]) -> Cases:
    """Clean one row per value of a bronze column; all values must be invalid. Return a reason for each."""
    raw = bronze(*({column: value} for value in written)).assign(_source_row=list(written))
    rejected = clean_csv(raw).rejected
    return dict(zip(rejected["_source_row"], rejected["reason"], strict=True))
