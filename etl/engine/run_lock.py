"""Check that the server is usable as the warehouse, and hold the run lock, which allows one run at a time on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection

from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import LockHeldError, PostgresError
from etl.utils.postgres_errors import POOLER_HINT
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings, connect_postgres
from etl.warehouse.run_history import RUN_LOCK
from etl.warehouse.transactions import transaction

SECONDS_TO_WAIT_FOR_THE_LOCK = 0.3
"""Longest wait for the lock of a killed run: PostgreSQL needs a moment to notice that the process has ended."""


@contextmanager
def run_lock(settings: Settings) -> Iterator[None]:
    """Check that the server is usable as the warehouse, then hold the run lock on a separate connection.

    If this connection is lost, so is the lock, but the run continues. If another run then starts, the next
    `fenced_transaction` raises, so that this run loads nothing more.

    Raises:
        PostgresError: the server cannot be reached or used (see `require_usable_server`), does not keep the session
            (see `_require_own_session`), or the lock was lost although the connection was not.
        LockHeldError: another run holds the lock.
    """
    connection = _locked_connection(settings)
    try:
        yield
    except BaseException:
        _unlock(connection)
        raise
    if not _unlock(connection):
        raise _pooled(settings)


@retry_transient(seconds=10)  # enough for a server that is just starting
def _locked_connection(settings: Settings) -> Connection:
    with translate_postgres_errors(settings):
        connection = connect_postgres(settings)
        try:
            require_usable_server(connection, settings)
            _require_own_session(connection, settings)
            if not _lock(connection):
                raise LockHeldError(
                    f"another run is active on {settings.postgres_address}",
                    hint="wait for it to end, then rerun; see: "
                    "select * from meta.pipeline_runs where status = 'running'",
                )
            _require_lock(connection, settings)
        except BaseException:
            connection.close()
            raise
    return connection


def _lock(connection: Connection) -> bool:
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_THE_LOCK
    while not _value(connection, "select pg_try_advisory_lock(%s)", RUN_LOCK):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _unlock(connection: Connection) -> bool:
    """Release the lock and close the connection. Returns False if this session did not hold the lock."""
    try:
        return bool(_value(connection, "select pg_advisory_unlock(%s)", RUN_LOCK))
    except psycopg2.Error:
        return True  # a lost connection has released the lock
    finally:
        connection.close()


def _value(connection: Connection, query: str, *parameters: object) -> object:
    """Run a query in a transaction of its own, and return its only value; None if it has no row."""
    with connection, connection.cursor() as db:
        db.execute(query, parameters)
        (value,) = db.fetchone() or (None,)
        return value


# --- Requirements for the server --------------------------------------------------------------------------------------

OLDEST_VERSION = 15


def require_usable_server(connection: Connection, settings: Settings) -> None:
    """Raise unless the database is encoded in UTF8 and writable, and its server is at least `OLDEST_VERSION`.

    Raises:
        PostgresError: names all problems.
    """
    with connection, connection.cursor() as db:
        db.execute(
            "select current_setting('server_version_num'), current_setting('server_encoding'), "
            "pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"
        )
        found = db.fetchone()
    version, encoding, is_standby, is_read_only = found or ("0", "", False, False)
    problems = {}
    if (major := int(version) // 10_000) < OLDEST_VERSION:
        problems[f"the server is PostgreSQL {major}"] = f"upgrade the server to PostgreSQL {OLDEST_VERSION} or later"
    if encoding != "UTF8":
        problems[f"database {settings.postgres_db} has encoding {encoding}"] = (
            "set POSTGRES_DB to another database: create database … encoding 'UTF8' template template0"
        )
    if is_standby:
        problems["the server is a standby"] = "connect to the primary"
    elif is_read_only:
        problems["transactions are read-only"] = (
            "reset default_transaction_read_only, which is on for the role, the database or the server"
        )
    if problems:
        raise PostgresError(
            f"PostgreSQL at {settings.postgres_address} cannot be used as the warehouse: {'; '.join(problems)}",
            hint="\n  → ".join(problems.values()),
        )


def _require_own_session(connection: Connection, settings: Settings) -> None:
    """Raise unless the connection keeps its backend between transactions, which a session-level advisory lock requires.

    A connection pooler in transaction mode gives each transaction any free backend. While a transaction of another
    connection is open, it occupies the backend that was used last or, if the pooler rotates backends, the next one. So
    this connection would get another backend by the second attempt at the latest.
    """
    backend = _value(connection, "select pg_backend_pid()")
    for _ in range(2):
        with transaction(settings) as db:
            db.execute("select 1")  # occupies a backend until the block ends
            now = _value(connection, "select pg_backend_pid()")
        if now != backend:
            raise _pooled(settings)


def _require_lock(connection: Connection, settings: Settings) -> None:
    """Raise unless this backend still holds the lock after the transaction that acquired it."""
    if not _value(
        connection,
        "select exists (select from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid() "
        "and (classid::bigint << 32) | objid::bigint = %s)",
        RUN_LOCK,
    ):
        raise _pooled(settings)


def _pooled(settings: Settings) -> PostgresError:
    return PostgresError(
        f"cannot hold the run lock on {settings.postgres_address}: the session changes between transactions, as behind "
        "a connection pooler in transaction mode",
        hint=POOLER_HINT,
    )
