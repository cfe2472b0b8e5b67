"""Connect to PostgreSQL, classify its errors as transient or permanent, and give a hint for each.

Errors are classified by SQLSTATE, because messages are in the language of the server (lc_messages). Messages are
compared only if there is no specific SQLSTATE: those of libpq, the client library, and of PgBouncer, which are never
translated.
"""

from __future__ import annotations

import ctypes
import re
import select
import time
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2 import _psycopg, extensions
from psycopg2.extensions import connection as Connection


class ConnectError(psycopg2.OperationalError):
    """No connection could be opened. Contains the SQLSTATE, which psycopg2 does not provide for such errors.

    `sqlstate` is None if the server did not answer, or its SQLSTATE is unknown; `00000` if a second attempt succeeded.
    """

    def __init__(self, message: str, *, sqlstate: str | None, transient: bool) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.transient = transient


_reached: set[tuple[object, object]] = set()
"""Hosts and ports to which this process has connected before. Their host names exist, even if resolving one fails."""


def open_connection(**arguments: Any) -> Connection:
    """Open a connection to PostgreSQL. If the server refuses it, try once more to get the SQLSTATE.

    Args:
        arguments: the arguments of `psycopg2.connect`.

    Raises:
        ConnectError: the server cannot be reached, or refuses the connection.
    """
    server = arguments.get("host"), arguments.get("port")
    try:
        connection: Connection = psycopg2.connect(**arguments)
    except (psycopg2.OperationalError, UnicodeDecodeError) as error:
        raise _connect_error(_text(error), arguments, was_reached=server in _reached) from None
    _reached.add(server)
    return connection


def _text(error: psycopg2.Error | UnicodeDecodeError) -> str:
    # Before a session has a client_encoding, the server's messages may be in any encoding.
    if isinstance(error, UnicodeDecodeError):
        return bytes(error.object).decode("utf-8", errors="replace")
    return str(error)


_SERVER_ANSWERED = re.compile(r"(?:^|failed: )[^\s:]+ ?:  ", re.MULTILINE)
"""`FATAL:  …`: libpq puts two blanks after the severity of a server's error, and after nothing else. The severity
itself is translated."""


def _connect_error(message: str, arguments: dict[str, Any], *, was_reached: bool) -> ConnectError:
    """Return the error for a failed connection, with its SQLSTATE, and whether a retry may succeed.

    If the server answered, the error is transient if its SQLSTATE is, or if a second attempt connects. Without an
    answer, the network or the server is down, so the error is transient unless libpq reports wrong settings. An unknown
    host name is a wrong setting only if this process has never connected to that host.
    """
    if not _SERVER_ANSWERED.search(message):
        is_setting = any(words in message for words in _SETTINGS_HINTS)
        is_name_lost = _NO_SUCH_HOST in message and was_reached  # a name server that is down or restarts
        return ConnectError(message, sqlstate=None, transient=is_name_lost or not is_setting)
    state = _sqlstate_of_refusal(arguments)
    transient = state == _CONNECTED or _is_transient_state(state, message)
    return ConnectError(message, sqlstate=state, transient=transient)


_CONNECTED = "00000"
_REFUSAL_TIMEOUT_SECONDS = 3
_PQERRORS_SQLSTATE = 3


def _sqlstate_of_refusal(arguments: dict[str, Any]) -> str | None:
    """Connect again, and return the SQLSTATE of the server's answer; `_CONNECTED` if this attempt succeeds.

    Return None if the SQLSTATE is unknown, or if there is no answer within `_REFUSAL_TIMEOUT_SECONDS`.

    libpq reports a failed connection only as a message. It can be configured to report the SQLSTATE instead, but only
    while a connection is being opened, so this needs a second, asynchronous attempt.
    """
    deadline = time.monotonic() + _REFUSAL_TIMEOUT_SECONDS
    try:
        set_verbosity = ctypes.CDLL(_psycopg.__file__).PQsetErrorVerbosity
        with closing(psycopg2.connect(**arguments, async_=1)) as attempt:
            set_verbosity(ctypes.c_void_p(attempt.pgconn_ptr), _PQERRORS_SQLSTATE)
            while (state := attempt.poll()) != extensions.POLL_OK:
                reading = [attempt] if state == extensions.POLL_READ else []
                writing = [attempt] if state == extensions.POLL_WRITE else []
                if not any(select.select(reading, writing, [], max(0.0, deadline - time.monotonic()))):
                    return None
    except (psycopg2.Error, UnicodeDecodeError) as error:
        found = re.search(r":  ([0-9A-Z]{5})$", _text(error), re.MULTILINE)
        return found[1] if found else None
    except (AttributeError, OSError):  # a libpq that is linked in another way
        return None
    return _CONNECTED


# --- Transient or permanent -------------------------------------------------------------------------------------------

TRANSIENT_STATES = ("08", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03")
"""SQLSTATEs (or their prefixes) of transient errors: lost or too many connections, serialization failure, deadlock,
lock timeout, restart, session ended as idle."""
_OF_POOLER = "08P01"
"""The SQLSTATE of PgBouncer for nearly all errors, including a wrong password."""
_POOLER_WITHOUT_SERVER = ("server_login_retry", "max_client_conn")


def is_transient(error: psycopg2.Error) -> bool:
    """Return whether an error is transient, so that a retry may succeed."""
    if isinstance(error, ConnectError):
        return error.transient
    if error.pgcode:
        return _is_transient_state(error.pgcode, str(error))
    # Without a SQLSTATE, these errors mean that the connection was lost.
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)


def _is_transient_state(state: str | None, message: str) -> bool:
    if state == _OF_POOLER:
        return any(words in message for words in _POOLER_WITHOUT_SERVER)
    return state is not None and state.startswith(TRANSIENT_STATES)


# --- What to do -------------------------------------------------------------------------------------------------------


def hint_of(error: psycopg2.Error) -> str:
    """Return a hint about what to do after an error of psycopg2."""
    if isinstance(error, ConnectError):
        return _hint_of_connect_error(error)
    if error.pgcode == "23503":
        return _hint_of_foreign_key(error)
    if error.pgcode is None and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return _CONNECTION_LOST
    return _HINTS.get(error.pgcode or "", _HINT)


def _hint_of_connect_error(error: ConnectError) -> str:
    message = str(error)
    if not _SERVER_ANSWERED.search(message):
        return next((hint for words, hint in _SETTINGS_HINTS.items() if words in message), _UNREACHABLE)
    if error.sqlstate == _OF_POOLER and "startup parameter" not in message:
        return _CHECK_LOG_IN
    return _HINTS.get(error.sqlstate or "", _CHECK_LOG_IN)


def _hint_of_foreign_key(error: psycopg2.Error) -> str:
    found = error.diag
    table = f"{found.schema_name}.{found.table_name}"
    return (
        f"foreign key {found.constraint_name} of {table} prevents a change that the pipeline makes: drop it or, if it "
        "references a table of the pipeline, declare it `on delete cascade` or `on delete set null`. To drop it: "
        f"alter table {table} drop constraint {found.constraint_name}"
    )


_HINT = "fix the cause and rerun: the transaction was rolled back"
POOLER_HINT = (
    "connect to PostgreSQL itself, or to a connection pool in session mode "
    "(PgBouncer: pool_mode = session, ignore_startup_parameters = options)"
)
_CONNECTION_LOST = f"the connection was lost: see the server's log, then rerun. Behind a pooler: {POOLER_HINT}"
_UNREACHABLE = "check POSTGRES_HOST and POSTGRES_PORT, and that the server is running and can be reached from here"
_CHECK_LOG_IN = (
    "the server refuses the connection: check POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, "
    "the server's pg_hba.conf and its connection limits"
)
_NO_SUCH_HOST = "could not translate host name"
_AUTHORITY = "set POSTGRES_SSLROOTCERT to the file with the CA certificate that signed the server certificate"
_SETTINGS_HINTS = {
    "server does not support SSL": "enable TLS on the server (ssl = on), or choose another POSTGRES_SSLMODE",
    "certificate verify failed": _AUTHORITY,
    "root certificate file": _AUTHORITY,
    "server certificate for": "set POSTGRES_HOST to a name that the server's certificate contains",
    "no password supplied": "set POSTGRES_PASSWORD",
    _NO_SUCH_HOST: "check POSTGRES_HOST",
}
"""Part of a message from libpq about wrong settings → hint."""
_OTHER_SHAPE = (
    "the definition of a table or view differs from the pipeline's (docs/data_dictionary.md). If an earlier version of "
    "the pipeline created it, rerun: python main.py --from-step 1. If it was created or altered outside the pipeline, "
    "rename or drop it first"
)
_HINTS = {
    _OF_POOLER: POOLER_HINT,
    "28P01": "check POSTGRES_USER and POSTGRES_PASSWORD",
    "28000": "check that role POSTGRES_USER exists and may log in, and that the server's pg_hba.conf allows this user, "
    "host and database, and whether it requires TLS (POSTGRES_SSLMODE)",
    "3D000": "check POSTGRES_DB",
    "53300": "too many connections: raise the limit (max_connections of the server; alter role … connection limit; "
    "alter database … connection limit), or lower --workers: a run opens up to two per worker, and up to three more",
    "57P03": "the server is starting up, shutting down or recovering: rerun when it accepts connections",
    "25006": "if the server is a standby, connect to the primary; otherwise reset default_transaction_read_only, which "
    "is on for the role, the database or the server",
    "42501": "grant POSTGRES_USER the missing privileges on POSTGRES_DB, or run as the role that owns the tables and "
    "schemas (or change the owner: alter table … owner to …, alter schema … owner to …)",
    "42883": "to create missing functions, run all steps: python main.py --from-step 1. If the type of a "
    "column was altered, restore it",
    "42P01": "check POSTGRES_DB; to create missing tables and views, run all steps: python main.py --from-step 1",
    "3F000": "check POSTGRES_DB; to create missing schemas, run all steps: python main.py --from-step 1",
    "42P07": "if a table was renamed outside the pipeline, its indexes kept their names: \\d SCHEMA.INDEX in psql "
    "shows the table of an index. Move that table to another schema, or restore its name, then rerun",
    "22001": "if a column was declared longer in sql_scripts/silver/apply_silver_types.sql, declare the same type in "
    "sql_scripts/gold/create_gold_tables.sql, drop the tables of gold that have the column (drop table … cascade, "
    "which also drops your own views of them), and rerun",
    **dict.fromkeys(("42703", "42804", "42809", "42830", "42P10", "42P16", "42P17"), _OTHER_SHAPE),
    "55000": "if a publication contains the table, remove it (alter publication … drop table …), set its replica "
    "identity (alter table … replica identity full), or publish inserts only (alter publication … set (publish = "
    f"'insert')), then rerun; otherwise, {_OTHER_SHAPE}",
    "53400": "raise the limit that the message names, such as temp_file_limit, or lower --workers, then rerun",
    "P0001": "a trigger or function of the database refuses this: see its message; change or drop it, then rerun",
    "2BP01": "drop the dependent objects, rerun, and create them again: on tables of schema bronze, silver or gold, "
    "not of schema partitions, whose tables are replaced when their day is loaded",
    "55P03": "another session holds a lock: find it with pg_stat_activity and pg_blocking_pids(), end it or wait, "
    "then rerun",
    "57014": "the statement was cancelled: by an administrator, or by a statement_timeout that a connection pooler "
    "imposes. To lift it: alter role … set statement_timeout = 0",
    "25P04": "transaction_timeout ended the transaction: alter role … set transaction_timeout = 0",
    "53100": "free disk space on the database server, then rerun",
    "53200": "the server is out of memory: give it more, or lower --workers. If the message mentions shared memory, "
    "raise max_locks_per_transaction, for example fourfold, and restart the server: one transaction publishes all days",
}
"""SQLSTATE → hint."""
