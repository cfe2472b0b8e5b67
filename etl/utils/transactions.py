"""Work on PostgreSQL in transactions: all of it or nothing, also when the connection is lost or the run is aborted."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from etl.utils.errors import AbortedError, PostgresError
from etl.utils.patience import patient
from etl.utils.utils_connection import Settings, connect_postgres, explained_postgres_errors

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - types, named as such
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

log = logging.getLogger(__name__)

SQL_SCRIPTS = Path(__file__).parents[2] / "sql_scripts"


@contextmanager
def transaction(settings: Settings) -> Iterator[Cursor]:
    """A cursor whose work is committed when the block ends, and rolled back when it raises.

    When the connection is lost while committing, the server is asked what became of the transaction: the block ends
    well if it was committed.

    Raises:
        PostgresError: for every fault that the server or the connection reports.
    """
    pool = _pool(settings)
    with explained_postgres_errors(settings):
        connection = pool.take()
        session = connection.info.backend_pid
        try:
            with connection.cursor() as db, _cancellable(db):
                yield db
                require_running()
                _commit(db, settings)
        except BaseException:
            if not _rolled_back(connection):
                pool.close()  # its other connections are most likely lost as well
                with suppress(psycopg2.Error, PostgresError):  # a server that is down has ended it already
                    _end_session(settings, session)
            raise
        finally:
            pool.give_back(connection)


class _Pool:
    """Open connections that wait for work."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []

    def take(self) -> Connection:
        with suppress(IndexError):
            return self._idle.pop()
        return connect_postgres(self._settings)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for later, unless it was lost or the run is ending."""
        if _closing.is_set():
            connection.close()
        if not connection.closed:
            self._idle.append(connection)

    def close(self) -> None:
        """Close those that wait."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


@lru_cache(maxsize=4)
def _pool(settings: Settings) -> _Pool:
    return _Pool(settings)


def close_connections(settings: Settings) -> None:
    """Close the connections that wait for work: before the database is dropped, say."""
    _pool(settings).close()


def _commit(db: Cursor, settings: Settings) -> None:
    session = db.connection.info.backend_pid
    mark = _leave_mark(db)
    try:
        db.connection.commit()
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        if mark is None or not _was_committed(mark, session, settings):
            raise
        log.warning("the connection was lost while committing; the server has the transaction all the same")


def _leave_mark(db: Cursor) -> str | None:
    """Leave a row by which a transaction that has written something is known afterwards.

    Its number would not do: after a crash the server gives numbers again whose transactions it has no record of.
    """
    db.execute("select pg_current_xact_id_if_assigned() is not null and to_regclass('meta.commit_marks') is not null")
    if db.fetchone() != (True,):
        return None
    mark = str(uuid.uuid4())
    db.execute("insert into meta.commit_marks (mark) values (%s)", (mark,))
    return mark


@patient()
def _was_committed(mark: str, session: int, settings: Settings) -> bool:
    """Ask the server what became of a transaction whose session has lost its connection.

    Raises:
        PostgresError: the server cannot tell, not even after a while.
    """
    if not _end_session(settings, session):
        raise PostgresError(
            f"session {session} is still at work after the connection was lost while committing",
            hint="run again: what was committed is found, the rest is done",
            transient=True,
        )
    with _question(settings) as db:
        db.execute("select exists (select from meta.commit_marks where mark = %s)", (mark,))
        return db.fetchone() == (True,)


def _end_session(settings: Settings, session: int) -> bool:
    """End a session of ours that has lost its connection: the server may not have noticed, and would keep its locks.

    Should its number have gone to another session of the pipeline meanwhile, that one is tried again. Returns False
    when it is still there after five seconds.
    """
    with _question(settings) as db:
        db.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where pid = %s and usename = current_user and application_name = current_setting('application_name')",
            (session,),
        )
        return db.fetchall() in ([], [(True,)])


@contextmanager
def _question(settings: Settings) -> Iterator[Cursor]:
    with explained_postgres_errors(settings):
        connection = connect_postgres(settings)
        try:
            with connection.cursor() as db:
                yield db
        finally:
            connection.close()


def _rolled_back(connection: Connection) -> bool:
    """False when the connection is lost; the server has rolled back then, or will."""
    with suppress(psycopg2.Error):
        connection.rollback()
        if not connection.closed:
            return True
    connection.close()
    return False


_in_hand: set[Cursor] = set()
_closing = threading.Event()


@contextmanager
def _cancellable(db: Cursor) -> Iterator[None]:
    require_running()
    _in_hand.add(db)
    try:
        yield
    finally:
        _in_hand.discard(db)


def require_running() -> None:
    """Hold that the run is not being aborted: a session that waits for its next statement has nothing to cancel.

    Raises:
        AbortedError: it is.
    """
    if _closing.is_set():
        raise AbortedError("the run is ending")


@contextmanager
def cancelled_transactions() -> Iterator[None]:
    """Cancel what this process's transactions are doing, so that they roll back at once; inside, none can begin."""
    _closing.set()
    try:
        _cancel_all()
        yield
    finally:
        _closing.clear()


def _cancel_all() -> None:
    for db in list(_in_hand):
        with suppress(psycopg2.Error):
            db.connection.cancel()


SECONDS_TO_ROLL_BACK = 5.0


def end_transactions() -> None:
    """Have what this process's transactions are doing rolled back; none begins until they are allowed again."""
    _closing.set()
    deadline = time.monotonic() + SECONDS_TO_ROLL_BACK
    while _in_hand and time.monotonic() < deadline:
        _cancel_all()
        time.sleep(0.05)


def allow_transactions() -> None:
    """Take back what `end_transactions` has done."""
    _closing.clear()


def table_name(qualified: str) -> sql.Identifier:
    """Quote `schema.table`."""
    return sql.Identifier(*qualified.split(".", 1))


def run_sql(db: Cursor, script: str, **names: sql.Composable) -> int:
    """Execute a file of sql_scripts/. Returns the rows of its last statement."""
    db.execute(script_text(script, **names))
    return db.rowcount


def script_text(script: str, **names: sql.Composable) -> sql.Composable:
    """A file of sql_scripts/, its `{placeholders}` filled with quoted names or literals."""
    text = sql.SQL(read_script(script))
    return text.format(**names) if names else text


@cache
def digest_of_scripts(*scripts: str) -> str:
    """By which it is known whether something was made by these files as they stand now."""
    return hashlib.sha256("".join(map(read_script, scripts)).encode()).hexdigest()


def count_rows(db: Cursor, table: str) -> int:
    db.execute(sql.SQL("select count(*) from {}").format(table_name(table)))
    (rows,) = db.fetchone() or (0,)
    return int(rows)


@cache
def read_script(script: str) -> str:
    """A file of sql_scripts/, as it stands there."""
    return (SQL_SCRIPTS / script).read_text(encoding="utf-8")
