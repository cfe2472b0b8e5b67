"""Translate errors of psycopg2 and botocore into pipeline errors with a hint what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.utils.errors import PostgresError, SourceError

if TYPE_CHECKING:
    import psycopg2

    from etl.utils.utils_connection import Settings


@contextmanager
def translate_postgres_errors(settings: Settings) -> Iterator[None]:
    """Raise errors of psycopg2 as a `PostgresError` with a hint."""
    import psycopg2

    from etl.utils.postgres_errors import hint_of, is_transient

    try:
        yield
    except psycopg2.Error as error:
        raise PostgresError(
            f"PostgreSQL at {settings.postgres_address}: {_message(error)}",
            hint=hint_of(error),
            transient=is_transient(error),
        ) from error


def _message(error: psycopg2.Error) -> str:
    # Without the context, which may contain whole rows, and whose label is in the server's language.
    parts = [error.diag.message_primary, *(error.diag.message_detail or "").splitlines()[:1]]
    lines = [part for part in parts if part] or str(error).strip().splitlines()[:2]
    return " ".join(" ".join(lines).split())


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
