"""Translate errors of psycopg2 and botocore into pipeline errors with a hint about what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2

from etl.utils.errors import PostgresError, SourceError
from etl.utils.postgres_errors import hint_of, is_transient

if TYPE_CHECKING:
    from etl.utils.utils_connection import Settings


@contextmanager
def translate_postgres_errors(settings: Settings) -> Iterator[None]:
    """Translate errors of psycopg2 in a `with` block.

    Raises:
        PostgresError: with a hint; `transient` if a retry may succeed.
    """
    try:
        yield
    except psycopg2.Error as error:
        raise PostgresError(
            f"PostgreSQL at {settings.postgres_address}: {_message(error)}",
            hint=hint_of(error),
            transient=is_transient(error),
        ) from error


def _message(error: psycopg2.Error) -> str:
    # Omit what may contain whole rows: the context, and the detail of violated NOT NULL and CHECK constraints.
    detail = "" if error.pgcode in ("23502", "23514") else error.diag.message_detail or ""
    parts = [error.diag.message_primary, *detail.splitlines()[:1]]
    if lines := [part for part in parts if part]:
        return " ".join(" ".join(lines).split())
    # libpq indents advice, and writes a line for each address of a host: the last one is that of the server's answer.
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("\t")]
    return "; ".join(" ".join(line.split()) for line in lines[-2:])


@contextmanager
def translate_s3_errors(what: str) -> Iterator[None]:
    """Translate errors of botocore in a `with` block.

    Args:
        what: the object, or the operation, that the message names.

    Raises:
        SourceError: with a hint; `transient` if a retry may succeed.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code, message = str(answer.get("Code", "?")), " ".join(str(answer.get("Message", "")).split())
        service = "STS" if error.operation_name in ("AssumeRole", "GetCallerIdentity") else "S3"
        raise SourceError(
            f"{what}: {service} returned {code}{': ' * bool(message)}{_cut(message)}",
            hint=next(
                (hint for sign, hint in _S3_MESSAGE_HINTS.items() if sign in message), _S3_HINTS.get(code, _S3_HINT)
            ),
            transient=code in _S3_TRANSIENT,
        ) from error
    # ValueError: for example, if a credential_process prints no JSON. RecursionError: botocore asks the server for the
    # region of the bucket when it is redirected, and is redirected again.
    except (BotoCoreError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{what}: {_botocore_message(error)}",
            hint=_S3_HINTS.get(type(error).__name__, _S3_HINT),
            transient=type(error).__name__ in _S3_TRANSIENT,
        ) from error
    except HTTPError as error:  # botocore does not translate all errors of a response that has begun
        raise SourceError(
            f"{what}: reading the response failed ({type(error).__name__})", hint=_CUT_SHORT, transient=True
        ) from error


def _cut(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:300]}…"


def _botocore_message(error: Exception) -> str:
    from botocore.exceptions import HTTPClientError

    if isinstance(error, RecursionError):
        return "the server redirects every request"
    if type(error) is HTTPClientError:
        # The message would include that of the underlying error, which may contain headers with a token or a signature.
        cause = error.kwargs.get("error")
        return f"the request could not be sent ({type(cause or error).__name__})"
    return _cut(" ".join(str(error).split()))


_S3_BUSY = frozenset(
    "429 500 502 503 504 InternalError RequestTimeout ServiceUnavailable SlowDown TooManyRequests".split()
)
# botocore retries requests, but not a response whose body ends early: `retry_transient` does.
_S3_CUT_SHORT = frozenset(
    "ConnectionClosedError FlexibleChecksumError IncompleteReadError ReadTimeoutError ResponseStreamingError".split()
)
_S3_TRANSIENT = _S3_BUSY | _S3_CUT_SHORT
_S3_HINT = "check S3_BUCKET_NAME, S3_REGION, AWS_ENDPOINT_URL_S3, the credentials and the network, then rerun"
_CUT_SHORT = "the response was cut short or altered on its way: check the network and its proxies, then rerun"
_NO_RIGHTS = (
    "the credentials lack permission: grant s3:ListBucket on the bucket and s3:GetObject on its objects; "
    "if S3_IAM_ROLE_ARN is set, also sts:AssumeRole on the role"
)
_S3_HINTS = {
    **dict.fromkeys(_S3_BUSY, "S3 is overloaded or down: rerun later"),
    **dict.fromkeys(_S3_CUT_SHORT, _CUT_SHORT),
    "NoSuchBucket": "check S3_BUCKET_NAME (and S3_SFTP_BUCKET, S3_PARQUET_BUCKET)",
    "NoSuchKey": "the object was deleted after it was listed: upload it again if it is still needed, then rerun",
    "404": "check S3_PARQUET_FILE, its bucket (S3_PARQUET_BUCKET, else S3_BUCKET_NAME), and that the file was uploaded",
    "403": _NO_RIGHTS,
    "AccessDenied": _NO_RIGHTS,
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "UnauthorizedSSOTokenError", "SSOTokenLoadError"),
        "the credentials have expired: log in again (aws sso login), or renew them",
    ),
    **dict.fromkeys(
        ("InvalidToken", "InvalidClientTokenId"),
        "check the access key, and that AWS_SESSION_TOKEN, if set, was issued with it",
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestInTheFuture"), "the clock of this machine is wrong: synchronize it"
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"),
        "set S3_REGION to the region of the bucket",
    ),
    **dict.fromkeys(
        ("KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException"),
        "the object is encrypted with a KMS key that cannot be used: enable the key, or upload the object again",
    ),
    "InvalidObjectState": "the object is archived (Glacier): restore it, then rerun",
    "ProfileNotFound": "correct or unset AWS_PROFILE, or set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
    "ParamValidationError": "check the names of the buckets (S3_BUCKET_NAME, S3_SFTP_BUCKET, S3_PARQUET_BUCKET), "
    "S3_PARQUET_FILE and S3_IAM_ROLE_ARN",
    "ValidationError": "correct S3_IAM_ROLE_ARN",  # from STS
    "InvalidBucketName": "correct the name of the bucket in S3_BUCKET_NAME, S3_SFTP_BUCKET or S3_PARQUET_BUCKET",
    "SSLError": "check AWS_ENDPOINT_URL_S3, and set AWS_CA_BUNDLE to the file with the CA certificate that signed the "
    "server's certificate",
    **dict.fromkeys(("407", "ProxyConnectionError"), "check HTTPS_PROXY and NO_PROXY"),
    "RecursionError": "check AWS_ENDPOINT_URL_S3 (such as http:// instead of https://) and S3_REGION",
    "400": "renew the credentials, which may have expired; if the object is encrypted with a customer-provided key "
    "(SSE-C), which is not supported, upload it without SSE-C",
    "InvalidAccessKeyId": "check S3_ACCESS_KEY_ID or, if it is unset, AWS_ACCESS_KEY_ID or the AWS profile",
    "SignatureDoesNotMatch": "check S3_SECRET_ACCESS_KEY or, if it is unset, AWS_SECRET_ACCESS_KEY or the AWS profile",
    "PreconditionFailed": "the object was replaced after it was listed: rerun",
    "NoCredentialsError": "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or any other credentials of boto3",
    "NoRegionError": "set S3_REGION",
    **dict.fromkeys(
        ("JSONDecodeError", "ValueError"),
        "check AWS_PROFILE, its credential_process, AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_ENDPOINT_URL_S3",
    ),
    "EndpointConnectionError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
    "ConnectTimeoutError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
}
_S3_MESSAGE_HINTS = {
    "perform: kms:": "the credentials lack permission: grant kms:Decrypt on the key with which the object is encrypted",
    "Server Side Encryption": "the object is encrypted with a customer-provided key (SSE-C), which is not supported: "
    "upload it without SSE-C",
}
"""Part of a message from S3 → hint, for errors whose code alone would be misleading."""
