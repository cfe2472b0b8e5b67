"""Frame ↔ table, by COPY; tables filled as a whole, in one transaction. Knows Postgres, no S3."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from psycopg2 import sql

from etl.utils.errors import AbortedError, CheckFailedError, PostgresError
from etl.utils.frames import text_frame
from etl.utils.patience import patient
from etl.utils.utils_connection import Settings, explained_postgres_errors, postgres_engine

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one
    from sqlalchemy import PoolProxiedConnection

log = logging.getLogger(__name__)

SQL_SCRIPTS = Path(__file__).parents[2] / "sql_scripts"
COPY_ROWS_AT_ONCE = 50_000
"""Rows rendered as CSV before they are sent: about 15 MB, whatever the size of the day."""


@contextmanager
def transaction(settings: Settings) -> Iterator[Cursor]:
    """A cursor whose work is committed when the block ends, and rolled back when it raises.

    When the connection is lost while committing, the server is asked what became of the transaction: the block ends
    well if it was committed.

    Raises:
        PostgresError: for every fault that the server or the connection reports.
    """
    with explained_postgres_errors(settings):
        connection = postgres_engine(settings).raw_connection()
        try:
            db = cast("Cursor", connection.cursor())
            with _cancellable(db):
                yield db
            _commit(db, settings)
        except BaseException:
            if not _roll_back(connection):
                postgres_engine(settings).dispose()  # its other connections are most likely lost as well
            raise
        finally:
            connection.close()


def _commit(db: Cursor, settings: Settings) -> None:
    import psycopg2

    db.execute("select pg_current_xact_id_if_assigned()::text")
    (transaction_id,) = db.fetchone() or (None,)
    try:
        db.connection.commit()
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        if transaction_id is None or not _was_committed(transaction_id, settings):
            raise
        log.warning("the connection was lost while committing; the server says: %s is committed", transaction_id)


@patient()
def _was_committed(transaction_id: str, settings: Settings) -> bool:
    """Ask the server what became of a transaction; its old session may take a moment to notice that nobody listens.

    Raises:
        PostgresError: the server cannot tell, not even after a while.
    """
    with explained_postgres_errors(settings):
        connection = postgres_engine(settings).raw_connection()
        try:
            db = cast("Cursor", connection.cursor())
            db.execute("select pg_xact_status(%s::xid8)", (transaction_id,))
            (status,) = db.fetchone() or (None,)
            connection.rollback()
        finally:
            connection.close()
    if status not in ("committed", "aborted"):
        raise PostgresError(
            f"transaction {transaction_id} is {status or 'unknown'} after the connection was lost while committing",
            hint="run again: what was committed is found, the rest is done",
            transient=status == "in progress",
        )
    return bool(status == "committed")


def _roll_back(connection: PoolProxiedConnection) -> bool:
    """False when the connection is lost; the server has rolled back then, or will."""
    import psycopg2

    with suppress(psycopg2.Error):
        connection.rollback()
        if not getattr(connection.dbapi_connection, "closed", 1):
            return True
    connection.invalidate()
    return False


_in_hand: set[Cursor] = set()
_closing = threading.Event()


@contextmanager
def _cancellable(db: Cursor) -> Iterator[None]:
    if _closing.is_set():
        raise AbortedError("the run is ending")
    _in_hand.add(db)
    try:
        yield
    finally:
        _in_hand.discard(db)


@contextmanager
def cancelled_transactions() -> Iterator[None]:
    """Cancel what this process's transactions are doing, so that they roll back at once; inside, none can begin."""
    import psycopg2

    _closing.set()
    try:
        for db in list(_in_hand):
            with suppress(psycopg2.Error):
                db.connection.cancel()
        yield
    finally:
        _closing.clear()


def table_name(qualified: str) -> sql.Identifier:
    """Quote `schema.table`."""
    return sql.Identifier(*qualified.split(".", 1))


def run_sql(db: Cursor, script: str, **names: sql.Composable) -> int:
    """Execute a file of sql_scripts/, its `{placeholders}` filled with quoted names or literals. Returns its rows."""
    db.execute(sql.SQL(_script_text(script)).format(**names) if names else _script_text(script))
    return db.rowcount


@cache
def _script_text(script: str) -> str:
    return (SQL_SCRIPTS / script).read_text(encoding="utf-8")


def create_staged_day(db: Cursor, parent: str, staged: str, partition_value: str) -> None:
    """Make an empty table of the shape of `parent`, to be filled aside and published by `publish_day`."""
    db.execute(
        sql.SQL(
            "drop table if exists {staged}; create table {staged} (like {parent} including all, "
            # says what the partition bound will say, so that attaching need not read the rows again
            "constraint one_day check (_partition_date is not null and _partition_date = {value}))"
        ).format(staged=table_name(staged), parent=table_name(parent), value=sql.Literal(partition_value))
    )


def lock_for_publishing(db: Cursor, parent: str) -> None:
    """Keep readers out until this transaction ends; give up soon if they do not let us in, so as not to block them."""
    db.execute(
        sql.SQL("set local lock_timeout = '3s'; lock table {} in access exclusive mode").format(table_name(parent))
    )


def publish_day(db: Cursor, parent: str, staged: str, published: str, partition_value: str) -> None:
    """Put a staged day in place of its partition of `parent`."""
    schema = published.split(".", 1)[0]
    db.execute(
        sql.SQL(
            "drop table if exists {published}; "
            "alter table {staged} set schema {schema}; "
            "alter table {parent} attach partition {published} for values in ({value}); "
            "alter table {published} drop constraint one_day"
        ).format(
            published=table_name(published),
            staged=table_name(staged),
            schema=sql.Identifier(schema),
            parent=table_name(parent),
            value=sql.Literal(partition_value),
        )
    )
    _note_changes(db, published)


def create_day_table(db: Cursor, parent: str, day_table: str, partition_value: str) -> None:
    """Make the (empty) partition of `parent` that holds one day, unless it is there."""
    db.execute("select to_regclass(%s) is null", (day_table,))
    if db.fetchone() == (True,):
        db.execute(
            sql.SQL("create table {} partition of {} for values in ({})").format(
                table_name(day_table), table_name(parent), sql.Literal(partition_value)
            )
        )
        _note_changes(db, day_table)


def _note_changes(db: Cursor, table: str) -> None:
    """Have the books told of changes by other hands (see sql_scripts/meta/create_meta_tables.sql)."""
    db.execute(
        sql.SQL(
            "create trigger note_change after insert or update or delete or truncate on {} "
            "for each statement execute function meta.note_change()"
        ).format(table_name(table))
    )


def create_text_table(db: Cursor, table: str, columns: Sequence[str]) -> None:
    """Make a fresh staging table with text columns."""
    db.execute(
        sql.SQL("drop table if exists {0}; create table {0} ({1})").format(
            table_name(table),
            sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in columns),
        )
    )


def empty_table(db: Cursor, table: str) -> None:
    """Remove all rows. Rows that come in the same transaction need no write-ahead log under wal_level=minimal."""
    db.execute(sql.SQL("truncate table {}").format(table_name(table)))


def copy_in(db: Cursor, table: str, frame: pd.DataFrame) -> int:
    """COPY a frame into a table, columns by name; a missing value is NULL. Returns the number of rows.

    Raises:
        CheckFailedError: the server took another number of rows.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    command = sql.SQL("copy {} ({}) from stdin (format csv)").format(table_name(table), columns)
    stream = _CsvStream(pa.Table.from_pandas(frame, preserve_index=False))
    db.copy_expert(command, stream, size=1 << 20)
    if db.rowcount != len(frame):
        raise CheckFailedError(f"{table} took {db.rowcount} of {len(frame)} rows", hint="run again")
    return len(frame)


def copy_out(db: Cursor, table: str) -> pd.DataFrame:
    """COPY a table's rows into a frame of text, NULL as `pd.NA`."""
    sink = io.BytesIO()
    db.copy_expert(sql.SQL("copy {} to stdout (format csv, header)").format(table_name(table)), sink, size=1 << 20)
    content = sink.getbuffer()
    names = table_columns(db, table)
    return text_frame(
        pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(content)),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
                check_utf8=False,
            ),
        )
    )


def table_columns(db: Cursor, table: str) -> list[str]:
    """The columns of a table, in its order, as Postgres knows them."""
    db.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
        "order by attnum",
        (table,),
    )
    return [name for (name,) in db.fetchall()]


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
