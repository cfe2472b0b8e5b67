"""The demo: the same pipeline on an embedded PostgreSQL and S3, with sample data or a folder of one's own (SPEC §9)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import SecretStr

from etl.utils.embedded import EmbeddedPostgres, s3_server, start_postgres, upload_folder
from etl.utils.sample_data import ensure_sample
from etl.utils.transactions import run_sql, transaction
from etl.utils.utils_connection import Settings, s3_client

log = logging.getLogger(__name__)

LOCAL = Path(".local")
BUCKET = "homebuddy-leads"


@dataclass(frozen=True)
class DemoEnvironment:
    """Where the demo runs."""

    settings: Settings
    postgres: EmbeddedPostgres

    def say_how_to_connect(self) -> None:
        server = self.postgres
        click.echo(f"\nPostgreSQL goes on running on {server.host}:{server.port}. Connect to it:")
        click.echo(f"  {server.psql_command()}")
        click.echo(f"  BI tools: database {server.database}, user {server.user}, password in {LOCAL}/pgpass")
        click.echo("  stop it: make demo-stop")


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


def _make_way_for(data: Path, settings: Settings) -> None:
    """Empty the demo's warehouse when it was filled from another folder: two sources' days do not belong together."""
    marker = LOCAL / "filled-from"
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
            for name in ("partition_start_date", "max_reject_ratio", "max_row_drop")
        },
    )
