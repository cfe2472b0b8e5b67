"""The demo: the same pipeline on an embedded PostgreSQL and S3, with sample data or a folder of one's own (SPEC §9).

    python -m etl.utils.demo

puts the sample into the bucket that the settings name, for servers that are not embedded: those of docker-compose.yml,
or of a first set-up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import SecretStr

from etl.utils.embedded import EmbeddedPostgres, running_postgres, s3_server, start_postgres, upload_folder
from etl.utils.errors import SettingsError
from etl.utils.sample_data import ensure_sample
from etl.utils.transactions import run_sql, transaction
from etl.utils.utils_connection import PROJECT, Settings, explained_s3_errors, load_settings, s3_client

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = logging.getLogger(__name__)

LOCAL = Path(".local")
BUCKET = "homebuddy-leads"
FILLED_FROM = "filled-from"
"""File in LOCAL: the folder whose files the demo's warehouse holds."""


@dataclass(frozen=True)
class DemoEnvironment:
    """Where the demo runs."""

    settings: Settings
    postgres: EmbeddedPostgres

    def how_to_connect(self) -> str:
        server = self.postgres
        return (
            f"\nPostgreSQL goes on running on {server.host}:{server.port}. Connect to it:"
            f"\n  {server.psql_command()}"
            f"\n  BI tools: database {server.database}, user {server.user}, password in {LOCAL}/pgpass"
            "\n  stop it: make demo-stop"
        )


@contextmanager
def demo_environment(data: Path | None) -> Iterator[DemoEnvironment]:
    """Start PostgreSQL and S3, upload the files of `data` (or the sample), and describe both as settings.

    PostgreSQL goes on running afterwards; the S3 server ends with the block.
    """
    if data is None:
        data = LOCAL / "sample"
        ensure_sample(data)
    postgres = start_postgres(LOCAL)
    with s3_server() as endpoint:
        settings = demo_settings(postgres, endpoint)
        _make_way_for(data, settings)
        upload_folder(s3_client(settings), BUCKET, data)
        yield DemoEnvironment(settings, postgres)


def settings_or_demo() -> Settings:
    """The settings of the environment or of `.env`; where they name no warehouse, those of the demo that runs here.

    For those who only read: notebooks, and the report. The demo's S3 is not among what they find: see `demo_source`.

    Raises:
        SettingsError: there is neither.
    """
    try:
        return load_settings()
    except SettingsError:
        if os.environ.get("POSTGRES_HOST"):
            raise
        if running_postgres(_demo_folder()) is None:
            raise
        log.info("no settings: reading what the demo has filled")
        return running_demo()


def running_demo() -> Settings:
    """The settings of the demo's warehouse; its PostgreSQL is started again where it was stopped."""
    return demo_settings(start_postgres(_demo_folder()), NO_ENDPOINT)


NO_ENDPOINT = "http://the-demo-has-ended.invalid"
"""Stands for the demo's S3, which ends with the demo's run."""


@contextmanager
def demo_source(settings: Settings) -> Iterator[Settings]:
    """Settings with an S3 that answers: for the demo, its server is started again with the files it was filled from."""
    if settings.aws_endpoint_url_s3 != NO_ENDPOINT:
        yield settings
        return
    data = Path((_demo_folder() / FILLED_FROM).read_text(encoding="utf-8"))
    with s3_server() as endpoint:
        settings = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
        upload_folder(s3_client(settings), BUCKET, data)
        yield settings


def _demo_folder() -> Path:
    """Where the demo has run: in this folder, or in the project's."""
    return LOCAL if (LOCAL / FILLED_FROM).exists() else PROJECT / LOCAL


def _make_way_for(data: Path, settings: Settings) -> None:
    """Empty the demo's warehouse when it was filled from another folder: two sources' days do not belong together."""
    marker = LOCAL / FILLED_FROM
    before = marker.read_text(encoding="utf-8") if marker.exists() else ""
    now = str(data.resolve())
    if before not in ("", now):
        log.warning("the demo's warehouse held the data of %s: it is emptied for that of %s", before, now)
        with transaction(settings) as db:
            run_sql(db, "schemas/drop_schemas.sql")
    marker.write_text(now, encoding="utf-8")


def demo_settings(postgres: EmbeddedPostgres, s3_endpoint: str) -> Settings:
    """Settings that name every variable, so that none of the environment's leads the demo somewhere else."""
    return Settings(
        postgres_user=postgres.user,
        postgres_password=SecretStr(postgres.password),
        postgres_db=postgres.database,
        postgres_host=postgres.host,
        postgres_port=postgres.port,
        postgres_sslmode=None,
        postgres_sslrootcert=None,
        bi_reader_password=None,
        s3_access_key_id=SecretStr("demo"),
        s3_secret_access_key=SecretStr("demo"),
        s3_region="us-east-1",
        s3_iam_role_arn=None,
        s3_iam_user_arn=None,
        aws_endpoint_url_s3=s3_endpoint,
        s3_bucket_name=BUCKET,
        s3_sftp_bucket=None,
        s3_parquet_bucket=None,
        s3_sftp_files_prefix="SFTP/data_",
        s3_parquet_file="parquet/leads.parquet",
        **{
            name: Settings.model_fields[name].default
            for name in ("partition_start_date", "max_reject_ratio", "max_row_drop", "dask_scheduler_address")
        },
    )


def upload_sample(settings: Settings) -> int:
    """Put the sample into the bucket, made when missing, and return how many files it is.

    Neither real files nor a warehouse made from them are overwritten: both must be empty, or the sample's.

    Raises:
        SettingsError: the bucket holds other objects, or the warehouse files of another bucket.
    """
    data = LOCAL / "sample"
    ensure_sample(data)
    client, bucket = s3_client(settings), settings.s3_bucket_name
    sizes = {file.relative_to(data).as_posix(): file.stat().st_size for file in data.rglob("*.*") if file.is_file()}
    others = [key for key, size in _objects_in(client, bucket).items() if sizes.get(key) != size]
    if others:
        raise SettingsError(
            f"bucket {bucket} holds objects that are not of the sample, such as {others[0]}",
            hint="set S3_BUCKET_NAME to a bucket that is empty, or that does not exist yet",
        )
    filled_from = _other_bucket_in_the_books(settings)
    if filled_from:
        raise SettingsError(
            f"database {settings.postgres_db} holds the files of bucket {filled_from}",
            hint=f"set POSTGRES_DB to another database for the sample, or S3_BUCKET_NAME to {filled_from}",
        )
    with explained_s3_errors(f"writing to s3://{bucket}"):
        return upload_folder(client, bucket, data)


def _objects_in(client: S3Client, bucket: str) -> dict[str, int]:
    with explained_s3_errors(f"s3://{bucket}"):
        try:
            listed = client.list_objects_v2(Bucket=bucket)  # the first thousand tell
        except client.exceptions.NoSuchBucket:
            return {}
    return {found["Key"]: found["Size"] for found in listed.get("Contents", [])}


def _other_bucket_in_the_books(settings: Settings) -> str | None:
    with transaction(settings) as db:
        db.execute("select to_regclass('meta.ingested_files') is not null")
        if db.fetchone() != (True,):
            return None
        db.execute("select min(bucket) from meta.ingested_files where bucket <> %s", (settings.s3_bucket_name,))
        found = db.fetchone()
        return found[0] if found else None


def main() -> int:
    """The command line: the settings of the environment say where to."""
    settings = load_settings()
    count = upload_sample(settings)
    click.echo(f"{count} files of the sample are in s3://{settings.s3_bucket_name}")
    return 0


if __name__ == "__main__":
    from etl.utils.terminal import configure_logging, ended_well

    configure_logging("info")
    raise SystemExit(ended_well(main))
