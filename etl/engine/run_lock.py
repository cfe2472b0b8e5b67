"""The run lock: one run at a time on a warehouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import LockHeldError
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings, connect_postgres

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a type, named as one


RUN_LOCK = int.from_bytes(b"HOMEBUDY")
"""Key of the advisory lock: one run at a time on a database. PostgreSQL releases it when the process dies."""
SECONDS_TO_WAIT_FOR_THE_LOCK = 0.3
"""PostgreSQL needs a moment to notice that a process was killed."""


@contextmanager
def run_lock(settings: Settings) -> Iterator[None]:
    """Hold the run lock on a separate connection.

    The lock is lost with that connection. The run continues: if another run starts, `load_ledger.record_load` raises,
    and this run writes nothing more.
    """
    import psycopg2

    connection = _locked_connection(settings)
    try:
        yield
    finally:
        with suppress(psycopg2.Error):  # a lost connection has released the lock
            connection.cursor().execute("select pg_advisory_unlock(%s)", (RUN_LOCK,))
            connection.commit()
        connection.close()


@retry_transient(seconds=10)  # enough for a server that is just starting
def _locked_connection(settings: Settings) -> Connection:
    with translate_postgres_errors(settings):
        connection = connect_postgres(settings)
        db = connection.cursor()
        deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_THE_LOCK
        while True:
            db.execute("select pg_try_advisory_lock(%s)", (RUN_LOCK,))
            (locked,) = db.fetchone() or (False,)
            connection.commit()
            if locked:
                return connection
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    connection.close()
    raise LockHeldError(
        f"another run is active on {settings.postgres_address}",
        hint="wait for it to end, then rerun; see: select * from meta.pipeline_runs where status = 'running'",
    )
