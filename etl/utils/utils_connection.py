"""Settings from the environment, and the two things made from them: a Postgres engine and an S3 client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etl.utils.errors import PostgresError, SettingsError, SourceError

if TYPE_CHECKING:
    import boto3
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a type, named as one
    from sqlalchemy import Engine
    from types_boto3_s3 import S3Client


PROJECT = Path(__file__).parents[2]


class Settings(BaseSettings):
    """All that a run needs to know about its surroundings: one field per variable of `.env.example`.

    Frozen, so that it can be handed to any thread and used as a cache key. Secrets are `SecretStr`: they print as
    asterisks in logs and tracebacks. Another process gets none of it: there, settings are those of that process (see
    `settings_of_this_process`).
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # a validation error would print the password otherwise
        defer_build=True,  # importing does nothing
    )

    postgres_user: str
    postgres_password: SecretStr
    postgres_db: str
    postgres_host: str
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    postgres_sslrootcert: str | None = None
    bi_reader_password: SecretStr | None = None

    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_region: str | None = None
    s3_iam_role_arn: str | None = None
    s3_iam_user_arn: str | None = None
    aws_endpoint_url_s3: str | None = None

    s3_bucket_name: str
    s3_sftp_bucket: str | None = None
    s3_parquet_bucket: str | None = None
    s3_sftp_files_prefix: str = "SFTP/data_"
    s3_parquet_file: str = "parquet/leads.parquet"
    partition_start_date: date = date(2024, 10, 1)

    max_reject_ratio: float = Field(default=0.05, ge=0, le=1)
    max_row_drop: float = Field(default=0.5, ge=0, le=1)

    dask_scheduler_address: str | None = None

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Settings:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together: set both, or neither")
        return self

    @field_validator("dask_scheduler_address")
    @classmethod
    def _address_names_its_protocol(cls, address: str | None) -> str | None:
        if address and not re.fullmatch(r"(tcp|tls)://[^/\s]+:[0-9]+", address):
            raise ValueError("a scheduler's address is tcp://host:port, or tls://host:port")
        return address

    def __reduce__(self) -> tuple[object, ...]:
        # Secrets travel with no task: who takes it up has settings of its own.
        return settings_of_this_process, (describe_postgres(self),)

    @property
    def csv_bucket(self) -> str:
        """The bucket of the CSV snapshots: what stands before the first `/` of S3_SFTP_BUCKET, else S3_BUCKET_NAME."""
        return _bucket_of(self.s3_sftp_bucket) or self.s3_bucket_name

    @property
    def parquet_bucket(self) -> str:
        """The bucket of the leads parquet: as `csv_bucket`, from S3_PARQUET_BUCKET."""
        return _bucket_of(self.s3_parquet_bucket) or self.s3_bucket_name


def _bucket_of(override: str | None) -> str | None:
    return override.split("/", 1)[0] if override else None


def load_settings(**given: Any) -> Settings:
    """Read the settings from the environment and from `.env`: the nearest one upwards of this folder, or the project's.

    What is given wins over the environment, and the environment over `.env`. The values of `.env` go into the
    environment, because boto3 reads its own variables (AWS_PROFILE, AWS_ENDPOINT_URL_STS, …) from there.

    Raises:
        SettingsError: naming every variable that is missing or wrong, at once.
    """
    from dotenv import find_dotenv, load_dotenv

    load_dotenv(find_dotenv(usecwd=True) or PROJECT / ".env")
    # pydantic would look through all that is installed for plugins: a quarter of a second, more than all else it does.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(
            _describe_settings_fault(error),
            hint="copy .env.example to .env and fill these in, or export them. "
            "Without a database and a bucket of your own, try: python main.py --demo",
        ) from None


_entrusted: dict[str, Settings] = {}


def entrust(settings: Settings) -> None:
    """Have this process work with settings that it was handed, rather than with those of its environment."""
    _entrusted[describe_postgres(settings)] = settings


def disown(warehouse: str) -> None:
    """Forget settings that were entrusted to this process.

    Args:
        warehouse: as `describe_postgres` names it.
    """
    _entrusted.pop(warehouse, None)


def settings_of_this_process(warehouse: str) -> Settings:
    """What settings become that another process sends along with a task.

    Args:
        warehouse: as `describe_postgres` names it. Only settings that were entrusted to this process must name the same
            one: seen from here it can have another address.

    Raises:
        SettingsError: see `load_settings`.
    """
    return _entrusted.get(warehouse) or _settings_of_environment()


@lru_cache(maxsize=1)
def _settings_of_environment() -> Settings:
    return load_settings()


def _describe_settings_fault(error: ValidationError) -> str:
    missing = [_variable(fault) for fault in error.errors() if fault["type"] == "missing"]
    wrong = [
        f"{_variable(fault)}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        for fault in error.errors()
        if fault["type"] != "missing"
    ]
    parts = []
    if missing:
        parts.append(f"settings are missing: {', '.join(missing)}")
    if wrong:
        parts.append(f"settings are wrong: {'; '.join(wrong)}")
    return " · ".join(parts)


def _variable(fault: Any) -> str:
    return "_".join(str(part) for part in fault["loc"]).upper()


# --- PostgreSQL -----------------------------------------------------------------------------------


def connect_postgres(settings: Settings) -> Connection:
    """A new connection to the warehouse: what the pipeline itself works on (see `transactions`)."""
    import psycopg2

    connection: Connection = psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=settings.postgres_password.get_secret_value(),
        dbname=settings.postgres_db,
        # None is not passed on: libpq then does what its own PGSSLMODE and PGSSLROOTCERT say, else prefers TLS.
        sslmode=settings.postgres_sslmode,
        sslrootcert=settings.postgres_sslrootcert,
        connect_timeout=10,
        application_name="homebuddy-leads-etl",
        client_encoding="utf8",
        options=" ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
        # A server that does not answer any more is noticed after a minute.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
    )
    return connection


@lru_cache(maxsize=4)
def postgres_engine(settings: Settings) -> Engine:
    """A SQLAlchemy engine on the warehouse, for `pandas.read_sql` in notebooks: one per process and settings."""
    from sqlalchemy import create_engine

    # The driver is named: SQLAlchemy 2.1 would pick psycopg 3 for a bare `postgresql://`.
    return create_engine("postgresql+psycopg2://", creator=lambda: connect_postgres(settings))


_SESSION = {
    "datestyle": "ISO,MDY",  # dates travel as ISO text
    "client_min_messages": "warning",  # `if not exists` need not say so each time
    "lock_timeout": "30s",  # nobody waits for ever behind a session that was left open
    # The same for the server: a client that has vanished keeps no locks.
    "idle_in_transaction_session_timeout": "10min",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Settings of each session, so that they do not hang on the server's own."""


def describe_postgres(settings: Settings) -> str:
    """Name the warehouse in a message, without its password."""
    return f"{settings.postgres_user}@{settings.postgres_host}:{settings.postgres_port}/{settings.postgres_db}"


@contextmanager
def explained_postgres_errors(settings: Settings) -> Iterator[None]:
    """Turn what the driver raises into one `PostgresError` that says what to do."""
    import psycopg2

    try:
        yield
    except psycopg2.Error as error:
        raise PostgresError(
            f"PostgreSQL at {describe_postgres(settings)}: {_first_lines(error)}",
            hint=_postgres_hint(error),
            transient=is_transient(error),
        ) from error


TRANSIENT_STATES = ("08", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03")
"""SQLSTATEs, or their classes, of faults that pass: connection, serialisation, deadlock, lock time-out, restart."""


def is_transient(error: BaseException | None) -> bool:
    """Whether a fault that the driver reports may well be gone in a moment."""
    import psycopg2

    state = getattr(error, "pgcode", None)
    if state:
        return str(state).startswith(TRANSIENT_STATES)
    # Without a state the connection could not be made, or was lost.
    permanent = any(sign in str(error) for sign, _ in _POSTGRES_HINTS if sign not in _MAY_PASS)
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and not permanent


def _first_lines(error: BaseException | None) -> str:
    # The rest of a server message is its CONTEXT, which can hold whole rows.
    lines = str(error).partition("CONTEXT:")[0].strip().splitlines()
    return " ".join(" ".join(lines[:2]).split())


_AUTHORITY = "set POSTGRES_SSLROOTCERT to the file with the certificate of the authority that signed the server's"
_POSTGRES_HINTS = (
    ("server does not support SSL", "switch TLS on in the server (ssl = on), or choose another POSTGRES_SSLMODE"),
    ("certificate verify failed", _AUTHORITY),
    ("root certificate file", _AUTHORITY),
    ("server certificate for", "set POSTGRES_HOST to a name that stands in the server's certificate"),
    ("password authentication failed", "check POSTGRES_USER and POSTGRES_PASSWORD"),
    ("no password supplied", "set POSTGRES_PASSWORD"),
    ("does not exist", "check POSTGRES_DB; missing tables are made by step 1: python main.py --from-step 1"),
    ("permission denied", "grant the role of POSTGRES_USER the rights that this needs on POSTGRES_DB"),
    ("must be owner", "run as the role that owns the tables, or hand them over: alter table … owner to …"),
    ("lock timeout", "a session that was left open holds a lock: see pg_stat_activity and pg_blocking_pids()"),
    ("depend on it", "build views on bronze, silver and gold, not on a table in schema partitions"),
    ("could not translate host name", "check POSTGRES_HOST"),
    ("Connection refused", "check POSTGRES_HOST and POSTGRES_PORT, and that the server runs"),
    ("no pg_hba.conf entry", "allow this user and host in the server's pg_hba.conf"),
    (
        "max_locks_per_transaction",
        "raise max_locks_per_transaction of the server, fourfold say, and restart it: all days are published together",
    ),
    ("No space left on device", "free disk space on the database server, then run again"),
)


_MAY_PASS = ("Connection refused",)


def _postgres_hint(error: BaseException | None) -> str:
    message = str(error)
    return next(
        (hint for sign, hint in _POSTGRES_HINTS if sign in message),
        "mend the cause and run again: every load is one transaction, nothing is half done",
    )


# --- S3 -------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def s3_client(settings: Settings) -> S3Client:
    """The S3 client: one per process and settings, safe to share between threads.

    Credentials are S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, else whatever boto3 finds by itself. Where
    S3_IAM_USER_ARN is set, they must be that user's; where S3_IAM_ROLE_ARN is set, that role's take their place.

    Raises:
        SettingsError: the identity is another one.
        SourceError: no credentials, or STS refused them.
    """
    from botocore.config import Config

    with explained_s3_errors("identity of the S3 credentials"):
        return _session(settings).client(
            "s3",
            endpoint_url=settings.aws_endpoint_url_s3,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 5},
                # A server on this machine is not behind the proxy that the environment may name.
                proxies={} if _is_loopback(settings.aws_endpoint_url_s3) else None,
            ),
        )


def caller_identity(settings: Settings) -> str:
    """Who the S3 credentials belong to, as AWS names it: the role's session where a role is assumed.

    An S3-compatible server (AWS_ENDPOINT_URL_S3) is not asked, but named.

    Raises:
        SettingsError: the identity is another one than S3_IAM_USER_ARN.
        SourceError: no credentials, or STS refused them.
    """
    if settings.aws_endpoint_url_s3:
        return f"an S3-compatible server, {settings.aws_endpoint_url_s3}: it knows no AWS identities"
    with explained_s3_errors("identity of the S3 credentials"):
        return str(_session(settings).client("sts").get_caller_identity()["Arn"])


def _session(settings: Settings) -> boto3.session.Session:
    import boto3

    session = boto3.session.Session(
        aws_access_key_id=_revealed(settings.s3_access_key_id),
        aws_secret_access_key=_revealed(settings.s3_secret_access_key),
        region_name=settings.s3_region,
    )
    if settings.s3_iam_user_arn:
        _check_identity(session, settings.s3_iam_user_arn)
    return _assume_role(session, settings.s3_iam_role_arn) if settings.s3_iam_role_arn else session


def _is_loopback(url: str | None) -> bool:
    return urlsplit(url or "").hostname in ("localhost", "127.0.0.1", "::1")


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _check_identity(session: boto3.session.Session, expected_arn: str) -> None:
    actual_arn = session.client("sts").get_caller_identity()["Arn"]
    if actual_arn != expected_arn:
        raise SettingsError(
            f"the S3 credentials belong to {actual_arn}, but S3_IAM_USER_ARN asks for {expected_arn}",
            hint="use that user's keys, or correct or unset S3_IAM_USER_ARN",
        )


def _assume_role(session: boto3.session.Session, role_arn: str) -> boto3.session.Session:
    import boto3

    assumed = session.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="homebuddy-leads-etl")["Credentials"]
    return boto3.session.Session(
        aws_access_key_id=assumed["AccessKeyId"],
        aws_secret_access_key=assumed["SecretAccessKey"],
        aws_session_token=assumed["SessionToken"],
        region_name=session.region_name,
    )


@contextmanager
def explained_s3_errors(what: str) -> Iterator[None]:
    """Turn what botocore raises while reading `what` into one `SourceError` that says what to do."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionClosedError,
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    # botocore tries again what fails before the answer; a body that ends early is ours to ask for again.
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
_S3_HINT = "check S3_BUCKET_NAME, S3_REGION, the credentials and the network, then run again"
_NO_RIGHTS = "these credentials may not read it: grant s3:ListBucket on the bucket and s3:GetObject on its objects"
_S3_HINTS = {
    **dict.fromkeys(_S3_BUSY, "S3 is overloaded or down: run again in a while"),
    "NoSuchBucket": "check S3_BUCKET_NAME (and S3_SFTP_BUCKET, S3_PARQUET_BUCKET)",
    "NoSuchKey": "check S3_SFTP_FILES_PREFIX and S3_PARQUET_FILE, and that the object was uploaded",
    "404": "check S3_PARQUET_FILE and its bucket (S3_PARQUET_BUCKET, else S3_BUCKET_NAME), and that it was uploaded",
    "403": _NO_RIGHTS,
    "AccessDenied": _NO_RIGHTS,
    "InvalidAccessKeyId": "check S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check S3_SECRET_ACCESS_KEY",
    "PreconditionFailed": "the object changed while it was being read: run again",
    "NoCredentialsError": "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or log in by any way that boto3 knows",
    "NoRegionError": "set S3_REGION",
    "EndpointConnectionError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
    "ConnectTimeoutError": "S3 cannot be reached: check S3_REGION, AWS_ENDPOINT_URL_S3 and the network",
}
