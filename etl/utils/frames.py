"""Frames whose cells are Arrow text, and conversions from and to Arrow."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

TEXT = pd.ArrowDtype(pa.string())
"""The pandas type of text cells: Arrow strings, NULL as `pd.NA`. PostgreSQL converts them to the types of silver."""


def text_array(column: pd.Series) -> pa.Array:
    """Convert a column of any type to a single Arrow string array."""
    array = pa.array(column if column.dtype == TEXT else column.astype(TEXT))
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def text_frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table of strings to a DataFrame without copying."""
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): TEXT}.get)
    return frame


def rows_as_json(frame: pd.DataFrame) -> pd.Series:
    """Convert each row to the text of a JSON object, with null for NULL cells.

    If the frame has no columns, return NULL for each row.
    """
    if frame.columns.empty or frame.empty:
        return pd.Series(pd.NA, index=frame.index, dtype=TEXT)
    lines = frame.to_json(orient="records", lines=True, force_ascii=False).rstrip("\n").split("\n")
    return pd.Series(lines, index=frame.index, dtype=TEXT)
