"""Frame ↔ table, by COPY. Knows Postgres, no S3."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from psycopg2 import sql

from etl.utils.day_tables import table_columns
from etl.utils.errors import CheckFailedError
from etl.utils.frames import text_frame
from etl.utils.transactions import require_running, table_name

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

PAGES_AT_ONCE = 1024
"""Pages of a table that are copied out together: 8 MB, some 25,000 rows of bronze."""

COPY_ROWS_AT_ONCE = 50_000
"""Rows rendered as CSV before they are sent: about 15 MB, whatever the size of the day."""


def copy_in(db: Cursor, table: str, frame: pd.DataFrame, *, frozen: bool = False) -> int:
    """COPY a frame into a table, columns by name; a missing value is NULL. Returns the number of rows.

    Args:
        frozen: the table was made or emptied in this transaction, so its rows can be written as old ones. Else who
            reads them first writes each page again, and with data checksums logs it.

    Raises:
        CheckFailedError: the server took another number of rows.
    """
    require_running()
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    command = sql.SQL("copy {} ({}) from stdin (format csv, freeze {})").format(
        table_name(table), columns, sql.Literal(frozen)
    )
    stream = _CsvStream(pa.Table.from_pandas(frame, preserve_index=False))
    db.copy_expert(command, stream, size=1 << 20)
    if db.rowcount != len(frame):
        raise CheckFailedError(f"{table} took {db.rowcount} of {len(frame)} rows", hint="run again")
    return len(frame)


def copy_out(db: Cursor, table: str) -> pd.DataFrame:
    """COPY a table's rows into a frame of text, NULL as `pd.NA`."""
    return pd.concat(copy_out_pieces(db, table), ignore_index=True)


def copy_out_pieces(db: Cursor, table: str) -> Iterator[pd.DataFrame]:
    """COPY a table's rows into frames of text of a bounded size: as they stand in its pages.

    There is always a first one, if one without rows.
    """
    db.execute("select pg_relation_size(%s) / current_setting('block_size')::int", (table,))
    (pages,) = db.fetchone() or (0,)
    columns = table_columns(db, table)
    for first in range(0, max(pages, 1), PAGES_AT_ONCE):
        command = sql.SQL(
            "copy (select * from {} where ctid >= {} and ctid < {}) to stdout (format csv, header)"
        ).format(table_name(table), sql.Literal(f"({first},0)"), sql.Literal(f"({first + PAGES_AT_ONCE},0)"))
        yield _copy_out(db, command, columns)


def _copy_out(db: Cursor, command: sql.Composable, columns: Sequence[str]) -> pd.DataFrame:
    require_running()
    sink = io.BytesIO()
    db.copy_expert(command, sink, size=1 << 20)
    content = sink.getbuffer()
    return text_frame(
        pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(content)),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
                check_utf8=False,
            ),
        )
    )


class _CsvStream(io.RawIOBase):
    """A table as a file of CSV, rendered piece by piece while it is read."""

    def __init__(self, table: pa.Table) -> None:
        self._batches = iter(table.to_batches(max_chunksize=COPY_ROWS_AT_ONCE))
        self._rendered = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rendered:
            batch = next(self._batches, None)
            if batch is None:
                return b""
            self._rendered = memoryview(_as_csv(batch))
        piece, self._rendered = self._rendered[:size], self._rendered[size:]
        return bytes(piece)


def _as_csv(batch: pa.RecordBatch) -> Any:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(batch, sink, pa.csv.WriteOptions(include_header=False))
    return sink.getvalue()
