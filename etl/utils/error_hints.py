"""Translate errors of psycopg2 and botocore into pipeline errors with a hint what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.utils.errors import PostgresError, SourceError

if TYPE_CHECKING:
    from etl.utils.utils_connection import Settings


@contextmanager
def translate_postgres_errors(settings: Settings) -> Iterator[None]:
    """Raise errors of psycopg2 as a `PostgresError` with a hint."""
    import psycopg2

    try:
        yield
    except psycopg2.Error as error:
        raise PostgresError(
            f"PostgreSQL at {settings.postgres_address}: {_first_lines(error)}",
            hint=_postgres_hint(error),
            transient=is_transient(error),
        ) from error


TRANSIENT_STATES = ("08", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03")
"""SQLSTATEs, or their classes, of transient errors: connection, serialisation, deadlock, lock time-out, restart."""


def is_transient(error: BaseException | None) -> bool:
    """Whether an error of psycopg2 is transient, so that a retry may succeed."""
    import psycopg2

    state = getattr(error, "pgcode", None)
    if state:
        return str(state).startswith(TRANSIENT_STATES)
    # Errors without SQLSTATE: the connection could not be established, or was lost.
    permanent = any(sign in str(error) for sign, _ in _POSTGRES_HINTS if sign not in _MAY_PASS)
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and not permanent


def _first_lines(error: BaseException | None) -> str:
    # The rest of a server message is its CONTEXT, which may contain whole rows.
    lines = str(error).partition("CONTEXT:")[0].strip().splitlines()
    return " ".join(" ".join(lines[:2]).split())


_AUTHORITY = "set POSTGRES_SSLROOTCERT to the file with the certificate of the authority that signed the server's"
_POSTGRES_HINTS = (
    ("server does not support SSL", "switch TLS on in the server (ssl = on), or choose another POSTGRES_SSLMODE"),
    ("certificate verify failed", _AUTHORITY),
    ("root certificate file", _AUTHORITY),
    ("server certificate for", "set POSTGRES_HOST to a name that the server's certificate contains"),
    ("password authentication failed", "check POSTGRES_USER and POSTGRES_PASSWORD"),
    ("no password supplied", "set POSTGRES_PASSWORD"),
    ("does not exist", "check POSTGRES_DB; step 1 creates missing tables: python main.py --from-step 1"),
    ("permission denied", "grant POSTGRES_USER the missing privileges on POSTGRES_DB"),
    ("must be owner", "run as the role that owns the tables, or change the owner: alter table … owner to …"),
    ("lock timeout", "another session holds a lock: see pg_stat_activity and pg_blocking_pids()"),
    ("depend on it", "build views on bronze, silver and gold, not on a table in schema partitions"),
    ("could not translate host name", "check POSTGRES_HOST"),
    ("Connection refused", "check POSTGRES_HOST and POSTGRES_PORT, and that the server is running"),
    ("no pg_hba.conf entry", "allow this user and host in the server's pg_hba.conf"),
    (
        "max_locks_per_transaction",
        "raise max_locks_per_transaction of the server, for example fourfold, and restart it: "
        "all days are published in one transaction",
    ),
    ("No space left on device", "free disk space on the database server, then rerun"),
)
_MAY_PASS = ("Connection refused",)


def _postgres_hint(error: BaseException | None) -> str:
    message = str(error)
    return next(
        (hint for sign, hint in _POSTGRES_HINTS if sign in message),
        "fix the cause and rerun: every load is one transaction, so no table is left half loaded",
    )


@contextmanager
def translate_s3_errors(what: str) -> Iterator[None]:
    """Raise errors of botocore as a `SourceError` with a hint.

    Args:
        what: what is being read, for the message.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionClosedError,
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    # botocore retries requests; a body that ends early has to be requested again by us.
    cut_short = (
        ConnectionClosedError,
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "?"))
        raise SourceError(
            f"{what}: S3 answered {code}",
            hint=_S3_HINTS.get(code, _S3_HINT),
            transient=code in _S3_BUSY,
        ) from error
    except BotoCoreError as error:
        name = type(error).__name__
        raise SourceError(
            f"{what}: {_without_query(error)}",
            hint=_S3_HINTS.get(name, _S3_HINT),
            transient=isinstance(error, cut_short),
        ) from error


def _without_query(error: BaseException) -> str:
    # A signed URL carries its signature in the query.
    return re.sub(r"\?[^\s\"']*", "", str(error))


_S3_BUSY = frozenset({"500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"})
_S3_HINT = "check S3_BUCKET_NAME, S3_REGION, the credentials and the network, then rerun"
_NO_RIGHTS = "the credentials lack permission: grant s3:ListBucket on the bucket and s3:GetObject on its objects"
_S3_HINTS = {
    **dict.fromkeys(_S3_BUSY, "S3 is overloaded or down: rerun later"),
    "NoSuchBucket": "check S3_BUCKET_NAME (and S3_SFTP_BUCKET, S3_PARQUET_BUCKET)",
    "NoSuchKey": "check S3_SFTP_FILES_PREFIX and S3_PARQUET_FILE, and that the object was uploaded",
    "404": "check S3_PARQUET_FILE and its bucket (S3_PARQUET_BUCKET, else S3_BUCKET_NAME), and that it was uploaded",
    "403": _NO_RIGHTS,
    "AccessDenied": _NO_RIGHTS,
    "InvalidAccessKeyId": "check S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check S3_SECRET_ACCESS_KEY",
    "PreconditionFailed": "the object changed while it was being read: rerun",
    "NoCredentialsError": "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or any other credentials of boto3",
    "NoRegionError": "set S3_REGION",
    "EndpointConnectionError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
    "ConnectTimeoutError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
}
