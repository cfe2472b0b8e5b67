"""What every frame of the pipeline has in common: its cells are Arrow text."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pd.ArrowDtype(pa.string())
"""The type of every cell until step 4 gives it its own: Arrow text, NULL as `pd.NA`."""


def text_array(column: pd.Series) -> pa.Array:
    """A column's cells as one Arrow array of text, whatever kind of text (or missing value) they are."""
    text = column if column.dtype == TEXT else column.astype(TEXT)
    array = pa.chunked_array(text.array.__arrow_array__())
    return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)


def text_frame(table: pa.Table) -> pd.DataFrame:
    """A frame over the very memory of an Arrow table of text."""
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): TEXT}.get)
    return frame


def rows_where(keep: pa.Array, table: pa.Table) -> pa.Table:
    """The rows that `keep` says; without the copy that filtering makes, where that is all of them."""
    return table if pc.all(keep, skip_nulls=False).as_py() else table.filter(keep)


def repeated(value: str, count: int) -> pd.arrays.ArrowExtensionArray:
    """A column that says the same in every row."""
    return pd.arrays.ArrowExtensionArray(pa.repeat(pa.scalar(value, pa.string()), count))


def rows_as_json(frame: pd.DataFrame) -> pd.Series:
    """One JSON object a row, as text; NULL cells are null. A frame without columns gives NULLs."""
    if frame.columns.empty or frame.empty:
        return pd.Series(pd.NA, index=frame.index, dtype=TEXT)
    lines = frame.to_json(orient="records", lines=True, force_ascii=False).rstrip("\n").split("\n")
    return pd.Series(lines, index=frame.index, dtype=TEXT)
