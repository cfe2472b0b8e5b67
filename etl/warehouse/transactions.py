"""Transactions on PostgreSQL that remain atomic when the connection is lost or the run is aborted."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import AbortedError, PostgresError
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings, connect_postgres

log = logging.getLogger(__name__)


@contextmanager
def transaction(settings: Settings) -> Iterator[Cursor]:
    """Open a transaction and yield its cursor. Commit when the block ends, or roll back when it raises.

    If the connection is lost during COMMIT, ask the server whether the transaction was committed. Connections are
    reused.

    Raises:
        PostgresError: the server or the connection reports an error.
        AbortedError: the run is being aborted; nothing is committed.
    """
    idle = _idle_connections.setdefault(settings, [])
    with translate_postgres_errors(settings):
        connection = _connection(idle, settings)
        session = connection.info.backend_pid
        try:
            _active_connections.add(connection)
            raise_if_aborting()
            with connection.cursor() as db:
                yield db
                raise_if_aborting()
                _commit(db, session, settings)
        except BaseException:
            if not _rolled_back(connection):
                _close(idle)  # idle connections are probably lost, too
                with suppress(psycopg2.Error, PostgresError):  # a server that is down has ended the session
                    _end_session(settings, session)
            raise
        finally:
            _active_connections.discard(connection)
            if _closing.is_set():
                connection.close()
            if not connection.closed:
                idle.append(connection)


@contextmanager
def read_only_transaction(settings: Settings) -> Iterator[Cursor]:
    """Yield a cursor that reads one snapshot of the database and cannot write.

    Raises:
        PostgresError: the server or the connection reports an error.
        AbortedError: the run is being aborted.
    """
    with transaction(settings) as db:
        db.execute("set transaction isolation level repeatable read, read only")
        yield db


_idle_connections: dict[Settings, list[Connection]] = {}


def _connection(idle: list[Connection], settings: Settings) -> Connection:
    with suppress(IndexError):
        return idle.pop()
    return connect_postgres(settings)


def close_connections() -> None:
    """Close the idle connections of this process, for example before a database is dropped."""
    for idle in list(_idle_connections.values()):
        _close(idle)


def _close(idle: list[Connection]) -> None:
    with suppress(IndexError):  # not `while idle`: another thread may take the last connection
        while True:
            idle.pop().close()


def _commit(db: Cursor, session: int, settings: Settings) -> None:
    mark = write_commit_marker(db)
    try:
        db.connection.commit()
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        if mark is None or not _was_committed(mark, session, settings):
            raise
        log.warning("the connection was lost during COMMIT; the server has committed the transaction")


def write_commit_marker(db: Cursor) -> str | None:
    """Insert a commit marker: a row that exists afterwards only if this transaction was committed.

    Returns the id of the marker; None, without inserting it, if the transaction has not written anything or the
    database has no meta.commit_marks. The transaction id would not be sufficient: after a crash, the server reuses ids
    of transactions that left no record.
    """
    db.execute("select pg_current_xact_id_if_assigned() is not null and to_regclass('meta.commit_marks') is not null")
    if db.fetchone() != (True,):
        return None
    mark = str(uuid.uuid4())
    db.execute("insert into meta.commit_marks (mark) values (%s)", (mark,))
    return mark


@retry_transient()
def _was_committed(mark: str, session: int, settings: Settings) -> bool:
    """Terminate the session of a lost connection, and return whether its transaction was committed."""
    if not _end_session(settings, session):
        raise PostgresError(
            f"session {session} is still running after the connection was lost during COMMIT",
            hint="rerun: committed work is kept, the rest is done again",
            transient=True,
        )
    with _question(settings) as db, suppress(psycopg2.errors.UndefinedTable):  # the first transaction creates the table
        db.execute("select exists (select from meta.commit_marks where mark = %s)", (mark,))
        return db.fetchone() == (True,)
    return False


def _end_session(settings: Settings, session: int) -> bool:
    """Terminate a session whose connection is lost. It would keep its locks until the server notices the loss.

    If the process id now belongs to another session of the pipeline, that session is terminated, and its transaction is
    retried. Returns False if the session still exists after five seconds.
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
    with translate_postgres_errors(settings), closing(connect_postgres(settings)) as session, session.cursor() as db:
        yield db


def _rolled_back(connection: Connection) -> bool:
    """Roll back. If the connection is lost, close it and return False: the server rolls back by itself."""
    with suppress(psycopg2.Error):
        connection.rollback()
        if not connection.closed:
            return True
    connection.close()
    return False


_active_connections: set[Connection] = set()
_closing = threading.Event()


def raise_if_aborting() -> None:
    """Raise if the run is being aborted. Needed between statements, when there is no statement to cancel.

    Raises:
        AbortedError: the run is being aborted.
    """
    if _closing.is_set():
        raise AbortedError("the run is being aborted")


SECONDS_TO_ROLL_BACK = 5.0


def end_transactions() -> None:
    """Cancel the running transactions of this process, and wait up to `SECONDS_TO_ROLL_BACK` until they have ended.

    No new transactions are possible until `allow_transactions` is called.
    """
    _closing.set()
    deadline = time.monotonic() + SECONDS_TO_ROLL_BACK
    while _active_connections and time.monotonic() < deadline:
        for connection in list(_active_connections):
            with suppress(psycopg2.Error):
                connection.cancel()
        time.sleep(0.05)


def allow_transactions() -> None:
    """Allow transactions again after `end_transactions`."""
    _closing.clear()
