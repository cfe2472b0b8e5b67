"""Read settings from the environment, and connect to PostgreSQL and S3 with them."""

from __future__ import annotations

import logging
import os
import re
from datetime import date
from difflib import get_close_matches
from functools import cache, lru_cache, partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from psycopg2.extensions import connection as Connection
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etl.utils.error_hints import translate_s3_errors
from etl.utils.errors import SettingsError, register_secrets
from etl.utils.postgres_errors import open_connection

if TYPE_CHECKING:
    import boto3
    from sqlalchemy import Engine
    from types_boto3_s3 import S3Client
    from types_boto3_sts import STSClient

log = logging.getLogger(__name__)
PROJECT = Path(__file__).parents[2]


_LAYOUTS = {
    "dask_scheduler_address": (
        r"(tcp|tls)://[^/\s]+:[0-9]+",
        "must be tcp://host:port or tls://host:port (also if given as --scheduler)",
    ),
    "s3_bucket_name": (
        "arn:.*|[^/]*",
        "must be the name of a bucket or the ARN of an access point, without s3:// or a folder",
    ),
    **dict.fromkeys(
        ("s3_sftp_bucket", "s3_parquet_bucket"),
        ("(?!s3:).*", "must begin with the name of a bucket or the ARN of an access point, without s3://"),
    ),
    "aws_endpoint_url_s3": (
        r"https?://[^/\s@?#]+(/[^\s?#]*)?",
        "must be a URL such as http://host:port or https://host, without user, password or query",
    ),
    # pydantic would accept other layouts, and numbers as seconds since 1970.
    "partition_start_date": ("[0-9]{4}-[0-9]{2}-[0-9]{2}", "must be a date such as 2024-10-01"),
}
"""Setting → regular expression that its text must match, and the error otherwise."""


class Settings(BaseSettings):
    """The configuration of a run: each field is read from the environment variable of the same name.

    Frozen, so that it can be shared between threads and used as a cache key. Secrets are `SecretStr`, which print as
    asterisks in logs and tracebacks. A pickled object contains only the address of the warehouse: the process that
    unpickles it uses its own settings (see `local_settings`). docs/configuration.md describes the settings.
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
    analyst_password: SecretStr | None = None

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

    missing_days: Literal["warn", "refuse"] = "warn"
    max_days_late: int | None = Field(default=None, ge=0, le=100_000)
    max_reject_ratio: float = Field(default=0.05, ge=0, le=1)
    max_row_drop: float = Field(default=0.5, ge=0, le=1)
    max_row_growth: float = Field(default=1.0, ge=0)
    max_repeated_leads: float = Field(default=0.5, ge=0, le=1)

    dask_scheduler_address: str | None = None

    @model_validator(mode="after")
    def _require_both_keys(self) -> Settings:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("set both S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or neither")
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _strip_and_check(cls, value: Any, field: ValidationInfo) -> Any:
        name = field.field_name or ""
        if not isinstance(value, str):
            return value
        if value and name in _LAYOUTS and not re.fullmatch(_LAYOUTS[name][0], value.strip()):
            raise ValueError(_LAYOUTS[name][1])
        # A secret from a file or from Kubernetes often ends with a line break. Blanks may be part of a password.
        return value.strip("\r\n") if name.endswith("password") else value.strip()

    def __reduce__(self) -> tuple[object, ...]:
        # Tasks carry no secrets: the receiving process has settings of its own.
        return local_settings, (self.postgres_address,)

    @property
    def postgres_address(self) -> str:
        """Address of the warehouse for messages: `user@host:port/database`, without the password."""
        return f"{self.postgres_user}@{self.postgres_host}:{self.postgres_port}/{self.postgres_db}"

    @property
    def csv_bucket(self) -> str:
        """The bucket of the CSV snapshots: S3_SFTP_BUCKET, else S3_BUCKET_NAME."""
        return _bucket_of(self.s3_sftp_bucket or "") or self.s3_bucket_name

    @property
    def parquet_bucket(self) -> str:
        """The bucket of the leads parquet: S3_PARQUET_BUCKET, else S3_BUCKET_NAME."""
        return _bucket_of(self.s3_parquet_bucket or "") or self.s3_bucket_name


def _bucket_of(name: str) -> str:
    """Return a bucket without the folder that may follow it. The ARN of an access point is returned as it is."""
    return name if name.startswith("arn:") else name.partition("/")[0]


def load_settings(**given: Any) -> Settings:
    """Read settings from the environment and from `.env`.

    The file `.env` is the nearest one in the working directory and the folders above it, else that of the project.
    Arguments take precedence over the environment, and variables that are not empty over `.env`. Its values are added
    to the environment, where boto3 reads its own variables (AWS_PROFILE, …); all variables AWS_… are trimmed.

    Raises:
        SettingsError: names all missing and invalid variables, or says why `.env` cannot be read.
    """
    _load_dotenv()
    # A line break in AWS_SESSION_TOKEN would make an invalid request, whose error shows the token.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        os.environ[name] = os.environ[name].strip()
    register_secrets(*(os.environ.get(name) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")))
    # pydantic would search all installed packages for plugins, which takes a quarter of a second.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(
            _describe_validation_error(error),
            hint="set or correct them in .env (a copy of .env.example) or in the environment. "
            "Without a database and a bucket of your own, try: python main.py --demo",
        ) from None


def _load_dotenv() -> None:
    """Copy `.env` to variables that are missing or empty. Raises `SettingsError` if it cannot be read."""
    from dotenv import dotenv_values, find_dotenv

    path = Path(find_dotenv(usecwd=True) or PROJECT / ".env")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        is_denied = isinstance(error, PermissionError)
        hint = f"make it readable for user id {os.getuid()}" if is_denied else "replace it with a copy of .env.example"
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    if "\0" in text:  # as in UTF-16
        raise SettingsError(f"{path} is not UTF-8", hint="save it as UTF-8, then rerun")
    setting_names = {name.upper() for name in Settings.model_fields}
    for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items():  # ${…} may be a password
        try:
            if value and not os.environ.get(name):
                os.environ[name] = value
        except UnicodeEncodeError:
            raise SettingsError(f"{path}: {name} needs another locale", hint="set LANG=C.UTF-8, then rerun") from None
        is_known = name.upper() in setting_names or name.startswith("AWS_")
        if similar := not is_known and get_close_matches(name.upper(), setting_names, n=1, cutoff=0.85):
            log.warning("%s: %s is not a setting and is ignored; did you mean %s?", path, name, similar[0])


_local_settings: dict[str, Settings] = {}


def set_local_settings(settings: Settings) -> None:
    """Make `local_settings` return these settings in this process, instead of those of its environment."""
    _local_settings[settings.postgres_address] = settings


def clear_local_settings(warehouse: str) -> None:
    """Undo `set_local_settings` for the settings with this `Settings.postgres_address`."""
    _local_settings.pop(warehouse, None)


def local_settings(warehouse: str) -> Settings:
    """Return the settings that this process uses in place of pickled settings from another process.

    Args:
        warehouse: `Settings.postgres_address` of the other process. The environment of this process may name the same
            warehouse by another address.

    Raises:
        SettingsError: see `load_settings`.
    """
    return _local_settings.get(warehouse) or _settings_of_environment()


_settings_of_environment = cache(load_settings)


def _describe_validation_error(error: ValidationError) -> str:
    missing, invalid = [], []
    for entry in error.errors():
        name = "_".join(map(str, entry["loc"])).upper()
        fault = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if entry["type"] == "missing":
            missing.append(name)
        else:
            invalid.append(f"{name} {fault}".lstrip())
    found = {"missing": ", ".join(missing), "invalid": "; ".join(invalid)}
    return " · ".join(f"{kind} settings: {names}" for kind, names in found.items() if names)


def connect_postgres(settings: Settings) -> Connection:
    """Open a new connection to the warehouse.

    Raises:
        psycopg2.Error: the connection cannot be opened. To add a hint, use `translate_postgres_errors`.
    """
    password = settings.postgres_password.get_secret_value()
    if password not in (settings.postgres_user, settings.postgres_db, settings.postgres_host):
        register_secrets(password)
    connection = open_connection(
        host=settings.postgres_host,
        hostaddr="",  # PGHOSTADDR would redirect the connection to another server
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=password,
        dbname=settings.postgres_db,
        # None is not passed on: libpq then uses PGSSLMODE and PGSSLROOTCERT, and prefers TLS by default.
        sslmode=settings.postgres_sslmode,
        sslrootcert=settings.postgres_sslrootcert,
        connect_timeout=10,
        application_name="homebuddy-leads-etl",
        client_encoding="utf8",
        options=" ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items()),
        # Detect an unresponsive server after a minute.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
    )
    _lift_time_limits(connection)
    return connection


def _lift_time_limits(connection: Connection) -> None:
    """Apply the session settings again, as a pooler may discard `options`, and lift the limits of newer servers."""
    limits = {name: "0" for name, version in _LIMITS_SINCE.items() if connection.server_version >= version}
    try:
        connection.autocommit = True
        with connection.cursor() as db:
            statements = [f"set {name} = '{value}'" for name, value in (SESSION_SETTINGS | limits).items()]
            db.execute("; ".join(statements + [_NOTICE_LOST_CLIENT] * (connection.server_version >= 140_000)))
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise


def postgres_engine(settings: Settings) -> Engine:
    """Return a SQLAlchemy engine for `pandas.read_sql`. It keeps no idle sessions: notebooks may stay open for days."""
    from sqlalchemy import NullPool, create_engine

    # Name the driver: SQLAlchemy 2.1 uses psycopg 3 for a bare `postgresql://`.
    return create_engine("postgresql+psycopg2://", creator=lambda: connect_postgres(settings), poolclass=NullPool)


SESSION_SETTINGS = {
    "datestyle": "ISO,MDY",  # dates travel as ISO text
    "timezone": "UTC",  # times are shown as UTC
    "client_min_messages": "warning",  # no notices for `if not exists`
    "quote_all_identifiers": "off",  # names that PostgreSQL returns are used in statements
    "lock_timeout": "30s",  # never wait forever for a session that was left open
    "statement_timeout": "0",  # a role's limit is meant for its queries: the time that a load takes grows with the data
    # Let the server detect a client that is gone, which must not keep locks.
    "idle_in_transaction_session_timeout": "10min",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Session settings, which override the defaults of the server and of the role."""
_NOTICE_LOST_CLIENT = "select set_config('client_connection_check_interval', '5s', false) where version() ~ 'linux'"
"""Makes the server look for a lost client during a statement, too; on Windows, PostgreSQL cannot."""
_LIMITS_SINCE = {"idle_session_timeout": 140_000, "transaction_timeout": 170_000}
"""Time limits that a session switches off → the server version that introduced them. The connection that holds the run
lock is idle during the run."""


@lru_cache(maxsize=4)
def s3_client(settings: Settings) -> S3Client:
    """Return the S3 client for these settings. All threads of the process share it.

    Credentials are S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, even if AWS_PROFILE is set, else those that boto3 finds.
    If S3_IAM_USER_ARN is set, they must belong to that user; if S3_IAM_ROLE_ARN is set, that role is assumed, again
    before its credentials expire.

    Raises:
        SettingsError: the credentials do not belong to S3_IAM_USER_ARN.
        SourceError: the AWS profile does not exist; or, if S3_IAM_USER_ARN or S3_IAM_ROLE_ARN is set, there are no
            credentials, or STS cannot be reached or refuses them.
    """
    from botocore.config import Config

    host = urlsplit(settings.aws_endpoint_url_s3 or "").hostname
    with translate_s3_errors("identity of the S3 credentials"):
        return _session(settings).client(
            "s3",
            endpoint_url=settings.aws_endpoint_url_s3,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 5},
                # A server on this machine is not behind the environment's proxy.
                proxies={} if host in ("localhost", "127.0.0.1", "::1") else None,
            ),
        )


def caller_identity(settings: Settings) -> str:
    """Return the ARN of the S3 credentials, or of the role session if a role is assumed.

    For an S3-compatible server (AWS_ENDPOINT_URL_S3), return a description of the server.

    Raises:
        SettingsError: the credentials do not belong to S3_IAM_USER_ARN.
        SourceError: the AWS profile does not exist, there are no credentials, or STS cannot be reached or refuses them.
    """
    if settings.aws_endpoint_url_s3:
        return f"an S3-compatible server without AWS identities, {settings.aws_endpoint_url_s3}"
    with translate_s3_errors("identity of the S3 credentials"):
        return str(_session(settings).client("sts").get_caller_identity()["Arn"])


def _session(settings: Settings) -> boto3.session.Session:
    import boto3
    import botocore.session
    from botocore.credentials import RefreshableCredentials

    given = (settings.s3_access_key_id, settings.s3_secret_access_key)
    key_id, secret_key = (key.get_secret_value() if key else None for key in given)
    register_secrets(key_id, secret_key)
    # Keys in the settings take precedence over AWS_PROFILE, which may name a profile that does not exist.
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)} if key_id else None)
    token = os.environ.get("AWS_SESSION_TOKEN") if (key_id or "").startswith("ASIA") else None  # of temporary keys
    session = boto3.session.Session(key_id, secret_key, token, settings.s3_region, core)
    if expected_arn := settings.s3_iam_user_arn:
        actual_arn = session.client("sts").get_caller_identity()["Arn"]
        if actual_arn != expected_arn:
            raise SettingsError(
                f"the S3 credentials belong to {actual_arn}, but S3_IAM_USER_ARN is {expected_arn}",
                hint="use the keys of that user, or correct or unset S3_IAM_USER_ARN",
            )
    if settings.s3_iam_role_arn:
        refresh = partial(_assume_role, session.client("sts"), settings.s3_iam_role_arn)
        # boto3 renews credentials only of roles that it assumed itself, and has no public setter for others.
        renewed = RefreshableCredentials.create_from_metadata(refresh(), refresh, "sts-assume-role")
        core._credentials = renewed  # type: ignore[attr-defined]
    return session


def _assume_role(sts: STSClient, role_arn: str) -> dict[str, str]:
    role = sts.assume_role(RoleArn=role_arn, RoleSessionName="homebuddy-leads-etl")["Credentials"]
    keys = {"access_key": role["AccessKeyId"], "secret_key": role["SecretAccessKey"], "token": role["SessionToken"]}
    register_secrets(*keys.values())
    return keys | {"expiry_time": role["Expiration"].isoformat()}
