"""Frames whose cells are Arrow text, and conversions from and to Arrow."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pd.ArrowDtype(pa.string())
"""The pandas type of text cells: Arrow strings, NULL as `pd.NA`. PostgreSQL converts them to the types of silver."""


def text_array(column: pd.Series) -> pa.Array:
    """Convert a column of any type to a single Arrow string array."""
    text = column if column.dtype == TEXT else column.astype(TEXT)
    array = pa.chunked_array(text.array.__arrow_array__())
    return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)


def text_frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table of strings to a DataFrame without copying."""
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): TEXT}.get)
    return frame


def rows_where(keep: pa.Array, table: pa.Table) -> pa.Table:
    """Return the rows that a Boolean mask selects, without copying if it selects all. NULL selects no row."""
    return table if pc.all(keep, skip_nulls=False).as_py() else table.filter(keep)


def repeated(value: str, count: int) -> pd.arrays.ArrowExtensionArray:
    """Return a column of `count` cells with the same text."""
    return pd.arrays.ArrowExtensionArray(pa.repeat(pa.scalar(value, pa.string()), count))


def rows_as_json(frame: pd.DataFrame) -> pd.Series:
    """Convert each row to the text of a JSON object, with null for NULL cells.

    If the frame has no columns, return NULL for each row.
    """
    if frame.columns.empty or frame.empty:
        return pd.Series(pd.NA, index=frame.index, dtype=TEXT)
    lines = frame.to_json(orient="records", lines=True, force_ascii=False).rstrip("\n").split("\n")
    return pd.Series(lines, index=frame.index, dtype=TEXT)
