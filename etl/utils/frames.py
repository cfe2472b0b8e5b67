"""What every frame of the pipeline has in common: its cells are Arrow text."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pd.ArrowDtype(pa.string())
"""The type of every cell until step 4 gives it its own: Arrow text, NULL as `pd.NA`."""


def text_array(column: pd.Series) -> pa.Array:
    """Return a column as one Arrow string array."""
    text = column if column.dtype == TEXT else column.astype(TEXT)
    array = pa.chunked_array(text.array.__arrow_array__())
    return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)


def text_frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table of strings to a DataFrame without copying."""
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): TEXT}.get)
    return frame


def rows_where(keep: pa.Array, table: pa.Table) -> pa.Table:
    """Filter a table by a Boolean mask; return it uncopied if all rows are selected."""
    return table if pc.all(keep, skip_nulls=False).as_py() else table.filter(keep)


def repeated(value: str, count: int) -> pd.arrays.ArrowExtensionArray:
    """Return a constant string column."""
    return pd.arrays.ArrowExtensionArray(pa.repeat(pa.scalar(value, pa.string()), count))


def rows_as_json(frame: pd.DataFrame) -> pd.Series:
    """Convert each row to a JSON object, as text. NULL cells are null; a frame without columns gives NULLs."""
    if frame.columns.empty or frame.empty:
        return pd.Series(pd.NA, index=frame.index, dtype=TEXT)
    lines = frame.to_json(orient="records", lines=True, force_ascii=False).rstrip("\n").split("\n")
    return pd.Series(lines, index=frame.index, dtype=TEXT)
