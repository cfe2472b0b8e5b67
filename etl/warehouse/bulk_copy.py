"""Copy data frames to tables, and tables to data frames, with COPY."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.errors import CheckFailedError
from etl.utils.frames import text_frame
from etl.warehouse.sql_scripts import quote_identifier, quote_identifiers
from etl.warehouse.transactions import raise_if_aborting

PAGES_PER_CHUNK = 1024
"""Number of pages of a table that are read into one frame: 8 MB, about 25,000 rows of bronze."""

ROWS_PER_CHUNK = 50_000
"""Number of rows that are rendered as CSV at a time: about 15 MB, whatever the size of the day."""


def copy_from_frame(db: Cursor, table: str, frame: pd.DataFrame, *, frozen: bool = False) -> int:
    """Copy a frame into the columns of a table that have the same names. Returns the number of rows; NA becomes NULL.

    Args:
        frozen: write rows as frozen, which PostgreSQL allows only if this transaction created or truncated the table.
            Without it, the first reader writes each page again and, with data checksums, logs it in the WAL.

    Raises:
        CheckFailedError: PostgreSQL loaded a different number of rows than the frame has.
        AbortedError: the run is being aborted.
    """
    raise_if_aborting()
    columns = quote_identifiers(frame.columns)
    command = sql.SQL("copy {} ({}) from stdin (format csv, freeze {})").format(
        quote_identifier(table), columns, sql.Literal(frozen)
    )
    copied = 0
    for batch in pa.Table.from_pandas(frame, preserve_index=False).to_batches(max_chunksize=ROWS_PER_CHUNK):
        csv = pa.BufferOutputStream()
        pa.csv.write_csv(batch, csv, pa.csv.WriteOptions(include_header=False))
        db.copy_expert(command, pa.BufferReader(csv.getvalue()), size=1 << 20)
        copied += db.rowcount
    if copied != len(frame):
        raise CheckFailedError(
            f"COPY into {table} loaded {copied} of {len(frame)} rows",
            hint=f"if a trigger on {table} discards rows, drop it; then rerun",
        )
    return len(frame)


def copy_to_frames(db: Cursor, table: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a table, in physical order, as frames of text with the rows of `PAGES_PER_CHUNK` pages each.

    Yields at least one frame: for an empty table, one without rows. The table must not be partitioned.

    Raises:
        AbortedError: the run is being aborted.
    """
    db.execute("select pg_relation_size(%s) / current_setting('block_size')::int", (table,))
    (pages,) = db.fetchone() or (0,)
    for first in range(0, max(pages, 1), PAGES_PER_CHUNK):
        command = sql.SQL(
            "copy (select * from {} where ctid >= {} and ctid < {}) to stdout (format csv, header)"
        ).format(quote_identifier(table), sql.Literal(f"({first},0)"), sql.Literal(f"({first + PAGES_PER_CHUNK},0)"))
        yield _read_copy(db, command)


def _read_copy(db: Cursor, command: sql.Composable) -> pd.DataFrame:
    raise_if_aborting()
    sink = io.BytesIO()
    db.copy_expert(command, sink, size=1 << 20)
    content = sink.getbuffer()
    return text_frame(
        pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(content)),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                default_column_type=pa.string(),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
                check_utf8=False,
            ),
        )
    )
