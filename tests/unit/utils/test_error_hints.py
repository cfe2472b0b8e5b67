"""Errors of botocore and psycopg2: the server's own message, a hint that fits it, and never a secret."""

from __future__ import annotations

import inspect
import json
import re

import botocore.exceptions
import psycopg2.errors
import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from pydantic import SecretStr
from urllib3.exceptions import SSLError

from etl.utils.error_hints import translate_postgres_errors, translate_s3_errors
from etl.utils.errors import PostgresError, SourceError, redact, register_secrets
from etl.utils.postgres_errors import ConnectError
from etl.utils.utils_connection import Settings

WORD = "password"
PLANTED = "planted/secret+with=signs"


@pytest.fixture(autouse=True)
def planted_secret() -> None:
    register_secrets(PLANTED)


def translated(error: Exception) -> SourceError:
    with pytest.raises(SourceError) as caught, translate_s3_errors("s3://bucket/key"):
        raise error
    return caught.value


def answer(code: str, message: str = "", status: int = 403) -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (
            "AccessDenied",
            "User: arn:aws:iam::1:user/etl is not authorized to perform: kms:Decrypt",
            "grant kms:Decrypt",
        ),
        ("AccessDenied", "Access Denied", "s3:GetObject"),
        ("InvalidObjectState", "The operation is not valid for the object's storage class", "restore it"),
        ("ExpiredToken", "The provided token has expired.", "log in again"),
        ("RequestTimeTooSkewed", "The difference between the request time and …", "the clock of this machine is wrong"),
        ("KMS.DisabledException", "arn:aws:kms:eu-north-1:1:key/x is disabled.", "enable the key"),
        ("KMS.KMSInvalidStateException", "the key is pending deletion", "enable the key"),
        ("InvalidRequest", "The object was stored using a form of Server Side Encryption.", "without SSE-C"),
        ("PermanentRedirect", "The bucket must be addressed using the specified endpoint.", "S3_REGION"),
        ("TooManyRequests", "Reduce your rate", "rerun later"),
        ("407", "Proxy Authentication Required", "HTTPS_PROXY"),
    ],
)
def test_message_of_s3_is_shown_with_a_hint_that_fits_it(code: str, message: str, hint: str) -> None:
    error = translated(answer(code, message))
    assert error.message == f"s3://bucket/key: S3 returned {code}: {message}"
    assert hint in str(error.hint)


def test_answer_of_sts_names_sts_and_the_setting_of_the_role() -> None:
    response = {"Error": {"Code": "ValidationError", "Message": "x is invalid"}}
    error = translated(ClientError(response, "AssumeRole"))  # type: ignore[arg-type]
    assert error.message == "s3://bucket/key: STS returned ValidationError: x is invalid"
    assert error.hint == "correct S3_IAM_ROLE_ARN"


def test_answer_without_message_shows_its_code() -> None:
    assert translated(answer("403")).message == "s3://bucket/key: S3 returned 403"


def test_endless_redirect_names_the_endpoint() -> None:
    error = translated(RecursionError("maximum recursion depth exceeded"))
    assert error.message == "s3://bucket/key: the server redirects every request"
    assert "AWS_ENDPOINT_URL_S3" in str(error.hint)


def test_altered_response_is_retried_and_names_the_network() -> None:
    error = translated(botocore.exceptions.FlexibleChecksumError(error_msg="Expected checksum did not match"))
    assert error.transient
    assert "the network" in str(error.hint)
    assert "S3_BUCKET_NAME" not in str(error.hint)


def test_tls_error_during_a_response_is_retried_and_names_the_network() -> None:
    error = translated(SSLError(f"bad record mac, {PLANTED}"))
    assert error.message == "s3://bucket/key: reading the response failed (SSLError)"
    assert error.transient
    assert "the network" in str(error.hint)


def test_invalid_configuration_of_botocore_has_a_hint() -> None:
    error = translated(json.JSONDecodeError("Expecting value", "", 0))
    assert error.message == "s3://bucket/key: Expecting value: line 1 column 1 (char 0)"
    assert "credential_process" in str(error.hint)


def test_long_message_of_s3_is_cut() -> None:
    assert len(translated(answer("AccessDenied", "x" * 10_000)).message) < 400


BOTOCORE_ERRORS = [
    error
    for _, error in inspect.getmembers(botocore.exceptions, inspect.isclass)
    if issubclass(error, BotoCoreError) and error.__init__ in (BotoCoreError.__init__, HTTPClientError.__init__)
]


@pytest.mark.parametrize("kind", BOTOCORE_ERRORS, ids=lambda kind: kind.__name__)
def test_botocore_error_shows_no_secret(kind: type[BotoCoreError]) -> None:
    fields = dict.fromkeys(re.findall(r"{(\w+)}", kind.fmt), f"Invalid header value b'{PLANTED}\\n'")
    fields |= {"error": ValueError(f"header {PLANTED}")} if "error" in fields else {}
    assert PLANTED not in str(translated(kind(**fields)))


def test_secret_that_was_never_registered_is_not_in_an_http_error() -> None:
    cause = ValueError("Invalid header value b'never-registered\\n'")
    error = translated(HTTPClientError(error=cause))
    assert error.message == "s3://bucket/key: the request could not be sent (ValueError)"


def test_answer_of_s3_shows_no_secret() -> None:
    assert PLANTED not in str(translated(answer("SignatureDoesNotMatch", f"StringToSign: {PLANTED}")))


def test_failed_connection_shows_the_answer_of_the_last_address() -> None:
    refused = "connection to server at {}, port 5432 failed: Connection refused"
    advice = "\n\tIs the server running on that host and accepting TCP/IP connections?\n"
    answer = 'connection to server at "127.0.0.1", port 5432 failed: FATAL:  password authentication failed'
    settings = Settings.model_construct(
        postgres_user="etl", postgres_host="localhost", postgres_port=5432, postgres_db="warehouse"
    )
    text = "".join(refused.format(address) + advice for address in ('"::2"', '"::1"')) + answer
    with pytest.raises(PostgresError) as caught, translate_postgres_errors(settings):
        raise ConnectError(text, sqlstate="28P01", transient=False)
    assert caught.value.message == (
        "PostgreSQL at etl@localhost:5432/warehouse: "
        'connection to server at "::1", port 5432 failed: Connection refused; '
        'connection to server at "127.0.0.1", port 5432 failed: FATAL: password authentication failed'
    )


@pytest.mark.parametrize("kind", [psycopg2.Error, psycopg2.OperationalError, *vars(psycopg2.errors).values()])
def test_postgres_error_shows_no_secret(kind: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, psycopg2.Error)):
        pytest.skip("no error")
    settings = Settings.model_construct(
        postgres_user="etl",
        postgres_password=SecretStr(PLANTED),
        postgres_host="server",
        postgres_port=5432,
        postgres_db="warehouse",
    )
    with pytest.raises(PostgresError) as caught, translate_postgres_errors(settings):
        raise kind(f'invalid connection option "password={PLANTED}"')
    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {PLANTED}.", "key ***."),
        ("planted%2Fsecret%2Bwith%3Dsigns", "***"),
        ("https://bucket.s3/key?X-Amz-Signature=abc 'end'", "https://bucket.s3/key?*** 'end'"),
        ("proxy http://user:pw@proxy:3128 refused", "proxy http://***@proxy:3128 refused"),
        ("etl@server:5432/warehouse: is it up?", "etl@server:5432/warehouse: is it up?"),
        (f"invalid dsn: host=a {WORD}=pw dbname=b", f"invalid dsn: host=a {WORD}=*** dbname=b"),
        (f"invalid dsn: {WORD} = 'p w' host=a", f"invalid dsn: {WORD} = *** host=a"),
        (f'{{"message": "{WORD}=pw", "step": 2}}', f'{{"message": "{WORD}=***", "step": 2}}'),
        ("check the password of the user", "check the password of the user"),
    ],
)
def test_redaction_removes_secrets_and_nothing_else(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_short_values_are_no_secrets() -> None:
    register_secrets("demo", None, "")
    assert redact("the demo runs") == "the demo runs"
