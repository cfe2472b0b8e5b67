"""Provide the servers, data and settings of the demo: an embedded PostgreSQL, S3, and a sample or files of a folder.

python -m etl.local.demo    upload the sample to the bucket of the settings (docker-compose.yml, profile demo)
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2.extensions import cursor as Cursor
from pydantic import SecretStr, ValidationError

from etl.local.embedded import start_postgres
from etl.local.postgres_cluster import READER, EmbeddedError, EmbeddedPostgres, translate_os_errors
from etl.local.postgres_server import write_private
from etl.local.s3_server import create_bucket, files_to_upload, s3_server, upload_folder
from etl.utils.error_hints import translate_s3_errors
from etl.utils.errors import LockHeldError, SettingsError
from etl.utils.s3_source import list_objects
from etl.utils.utils_connection import PROJECT, Settings, load_settings, s3_client
from etl.warehouse.descriptions import read_descriptions
from etl.warehouse.run_history import RUN_LOCK
from etl.warehouse.sql_scripts import run_sql, table_exists
from etl.warehouse.transactions import transaction

log = logging.getLogger(__name__)

LOCAL = Path(".local")
BUCKET = "homebuddy-leads"
SAMPLE_VERSION = "3"
"""Must be incremented if `write_sample` writes other files than before, so that the demo writes its sample again."""
FILLED_FROM = "filled-from"
"""File in LOCAL that names the folder from which the demo's warehouse was filled."""


def how_to_connect(server: EmbeddedPostgres) -> str:
    """Return the text that the demo prints at its end: how to connect to PostgreSQL, and how to stop it."""
    stop = "make demo-stop"
    if Path.cwd() != PROJECT:  # where the Makefile is
        stop = f"PYTHONPATH={shlex.quote(str(PROJECT))} {shlex.quote(sys.executable)} -m etl.local.embedded {LOCAL}"
    return (
        f"\nPostgreSQL keeps running on {server.host}:{server.port}. To read gold, with psql or BI tools:"
        f"\n  {server.psql_command(READER)}"
        f"\n  BI tools: database {server.database}, user {READER}, password in {LOCAL}/pgpass"
        f"\n  as the owner: {server.psql_command()}"
        f"\n  stop it: {stop}"
    )


@contextmanager
def demo_environment(data: Path | None, *, all_steps: bool) -> Iterator[tuple[Settings, EmbeddedPostgres]]:
    """Start PostgreSQL and S3, and upload the files of `data`, or the sample. Yields settings and server.

    A warehouse that was filled from another folder is emptied. PostgreSQL keeps running afterwards; the S3 server stops
    at the end of the block. Removes the variables of libpq and AWS from the environment.

    Args:
        all_steps: all steps will run, so the warehouse may be emptied.

    Raises:
        EmbeddedError: `data` is incomplete or cannot be read, PostgreSQL cannot start, or the warehouse has to be
            emptied, although not all steps will run. The warehouse is unchanged.
        PostgresError: the warehouse cannot be emptied.
        LockHeldError: the warehouse has to be emptied, but a run is active on it.
    """
    ignore_environment()
    if data is not None:
        check_data_folder(data)
    postgres = start_postgres(LOCAL, reader_password=_password("BI_READER_PASSWORD"))
    data = data or sample_folder()
    with s3_server() as endpoint:
        settings = demo_settings(postgres, endpoint).model_copy(
            update={
                "bi_reader_password": SecretStr(postgres.reader_password or ""),
                "analyst_password": SecretStr(_password("ANALYST_PASSWORD")),
            }
        )
        with translate_os_errors(data):
            upload_folder(s3_client(settings), BUCKET, data)
        _empty_other_warehouse(data, settings, all_steps=all_steps)
        yield settings, postgres


def _password(name: str) -> str:
    """Return a password from the environment, without the line break with which a secret from a file may end."""
    return os.environ.get(name, "").strip("\r\n")


def sample_folder() -> Path:
    """Return the folder of the sample. Writes the sample unless this version of it is there, edited or not.

    Raises:
        EmbeddedError: the folder cannot be written.
    """
    folder = LOCAL / "sample"
    marker = folder / "version"
    with translate_os_errors(folder):
        if not marker.exists() or marker.read_text(encoding="utf-8") != SAMPLE_VERSION:
            from etl.local.sample_data import write_sample  # takes 0.1 s

            write_sample(folder)
            marker.write_text(SAMPLE_VERSION, encoding="utf-8")
    return folder


def ignore_environment() -> None:
    """Remove the variables of libpq and boto3 from the environment of this process, and make boto3 ignore its files.

    Otherwise they could redirect the demo to other servers.
    """
    for name in list(os.environ):
        if name.startswith(("PG", "AWS_")):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def check_data_folder(data: Path) -> None:
    """Raise unless `data` contains the files that the pipeline needs, and all files to upload can be read.

    Raises:
        EmbeddedError: names the first file with a problem.
    """
    hint = "--data expects a folder with SFTP/data_1.csv, SFTP/data_2.csv, … and parquet/leads.parquet"
    try:
        names = [path.name for path in (data / "SFTP").iterdir()]
        has_snapshot = any(name.startswith("data_") and name.endswith((".csv", ".csv.gz")) for name in names)
        problem = None if has_snapshot else f"{data / 'SFTP'} contains no data_*.csv"
        for file in {data / "parquet" / "leads.parquet": None, **dict.fromkeys(files_to_upload(data))}:
            problem = problem or _problem_of(file)
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}"
        hint = "make it readable for this user" if isinstance(error, PermissionError) else hint
    if problem:
        raise EmbeddedError(f"{problem}. The warehouse is unchanged", hint=hint)


def _problem_of(file: Path) -> str | None:
    """Return a sentence that says why a path is not a regular file; None if it is one."""
    if file.is_file():
        file.open("rb").close()
        return None
    if file.is_symlink() and not file.exists():
        return f"{file} is a broken symlink to {file.readlink()}"
    if not file.exists():
        return f"{file} does not exist"
    return f"{file} is {'a folder' if file.is_dir() else 'a special file'}, not a regular file"


def settings_or_demo() -> Settings:
    """Return the settings of the environment or `.env`; without POSTGRES_HOST, those of the demo if it has run.

    For callers that only read the warehouse, such as notebooks and the report: the settings of the demo have no S3
    server (see `demo_source`). For the demo's side effects see `running_demo`.

    Raises:
        SettingsError: settings are missing or invalid, and POSTGRES_HOST is set or no demo has run.
        EmbeddedError: see `start_postgres`.
    """
    try:
        return load_settings()
    except SettingsError as error:
        if not isinstance(error.__context__, ValidationError):
            raise  # `.env` cannot be read
        if os.environ.get("POSTGRES_HOST") or not (_demo_folder() / FILLED_FROM).exists():
            raise
        log.info("POSTGRES_HOST is not set: reading the warehouse of the demo")
        return running_demo()


def running_demo() -> Settings:
    """Start the demo's PostgreSQL if it is stopped, and return the settings of its warehouse.

    Removes the variables of libpq and AWS from the environment.

    Raises:
        EmbeddedError: the demo has not run yet; or see `start_postgres`.
    """
    if not _filled_from(_demo_folder()):
        raise EmbeddedError("the demo has not run yet", hint="fill its warehouse first: python main.py --demo")
    ignore_environment()
    return demo_settings(start_postgres(_demo_folder()), NO_ENDPOINT)


NO_ENDPOINT = "http://the-demo-has-ended.invalid"
"""Placeholder for the demo's S3 server, which stops at the end of its run."""


@contextmanager
def demo_source(settings: Settings) -> Iterator[Settings]:
    """Yield settings with which S3 can be read. Settings that are not from `running_demo` are yielded unchanged.

    For the demo, an S3 server runs until the end of the block, with the current files of the folder from which the
    warehouse was filled.

    Raises:
        EmbeddedError: the folder no longer contains files.
        OSError: a file in the folder cannot be read.
    """
    if settings.aws_endpoint_url_s3 != NO_ENDPOINT:
        yield settings
        return
    with s3_server() as endpoint:
        settings = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
        upload_folder(s3_client(settings), BUCKET, Path(_filled_from(_demo_folder())))
        yield settings


def _demo_folder() -> Path:
    """Return the folder of the demo: in the working directory if the demo has run there, else in the project."""
    return LOCAL if (LOCAL / FILLED_FROM).exists() else PROJECT / LOCAL


def _empty_other_warehouse(data: Path, settings: Settings, *, all_steps: bool) -> None:
    """Empty the demo's warehouse if it was filled from another folder, so that days of two sources do not mix.

    Tables and views of users that are in the dropped schemas, or depend on them, are dropped, too, and named in a
    warning. The folder is recorded in `FILLED_FROM`.
    """
    before, now = _filled_from(LOCAL), str(data.resolve())
    if before not in ("", now):
        if not all_steps:
            raise EmbeddedError(
                f"the warehouse contains data from {before}, not from {now}; only a run of all steps replaces it",
                hint=f"omit --from-step and --only-step, or add --data {shlex.quote(before)}",
            )
        with transaction(settings) as db:
            db.execute("select pg_try_advisory_xact_lock(%s)", (RUN_LOCK,))
            if db.fetchone() != (True,):
                raise LockHeldError(
                    f"a run is active on the demo's warehouse, which contains data from {before}",
                    hint="wait for it to end, then rerun",
                )
            own = _relations_of_users(db)
            run_sql(db, "schemas/drop_schemas.sql")
            dropped = ", ".join(sorted(own - _relations_of_users(db)))
            log.warning(
                "the demo's warehouse contained data from %s; it was emptied, and is now loaded from %s%s",
                before,
                now,
                f"; your own views and tables in it, or based on it, were dropped: {dropped}" if dropped else "",
            )
    write_private(LOCAL / FILLED_FROM, now, None)


def _filled_from(root: Path) -> str:
    """Return the folder from which the warehouse of a demo was filled; an empty text if no demo has run."""
    marker = root / FILLED_FROM
    return marker.read_text(encoding="utf-8", errors="surrogateescape") if marker.exists() else ""


def _relations_of_users(db: Cursor) -> set[str]:
    """Return the tables and views that the pipeline did not create, as quoted names: `schema.table`."""
    db.execute(
        """
        select nspname, relname, format('%I.%I', nspname, relname)
        from pg_class
        inner join pg_namespace on relnamespace = pg_namespace.oid
        where
            relkind in ('r', 'p', 'f', 'v', 'm')
            and not relispartition
            and nspname not in ('information_schema', 'partitions', 'staging')
            and nspname not like 'pg\\_%'
        """
    )
    described = read_descriptions()
    return {name for schema, table, name in db.fetchall() if table not in described.get(schema, ())}


def demo_settings(postgres: EmbeddedPostgres, s3_endpoint: str) -> Settings:
    """Return the settings of the demo: these values and defaults, whatever the environment contains."""
    return Settings.model_construct(
        postgres_user=postgres.user,
        postgres_password=SecretStr(postgres.password),
        postgres_db=postgres.database,
        postgres_host=postgres.host,
        postgres_port=postgres.port,
        s3_access_key_id=SecretStr("demo"),
        s3_secret_access_key=SecretStr("demo"),
        s3_region="us-east-1",
        aws_endpoint_url_s3=s3_endpoint,
        s3_bucket_name=BUCKET,
    )


def upload_sample(settings: Settings) -> int:
    """Upload the sample to the bucket, which is created if missing. Returns the number of files.

    Refuses to mix the sample with other data: the bucket must be empty or contain only files of the sample, and the
    warehouse must be empty or loaded from this bucket.

    Raises:
        SettingsError: the bucket contains other objects, or the warehouse was loaded from another bucket.
        SourceError: S3 cannot be read or written.
        PostgresError: the warehouse cannot be read.
    """
    data = sample_folder()
    client, bucket = s3_client(settings), settings.s3_bucket_name
    if filled_from := _other_loaded_bucket(settings):
        raise SettingsError(
            f"the sample was not uploaded: database {settings.postgres_db} contains the files of bucket {filled_from}",
            hint="set POSTGRES_DB to an empty database, as sql_scripts/admin/create_warehouse.psql creates it",
        )
    with translate_s3_errors(f"writing to s3://{bucket}"):
        create_bucket(client, bucket)
    sizes = {file.relative_to(data).as_posix(): file.stat().st_size for file in files_to_upload(data)}
    objects = (found for found, _ in list_objects(client, bucket, ""))
    if other := next((found.key for found in objects if sizes.get(found.key) != found.size), None):
        raise SettingsError(
            f"bucket {bucket} contains objects that are not part of the sample, such as {other}",
            hint="set S3_BUCKET_NAME to a bucket that is empty or does not exist",
        )
    with translate_s3_errors(f"writing to s3://{bucket}"):
        return upload_folder(client, bucket, data)


def _other_loaded_bucket(settings: Settings) -> str | None:
    """Return a bucket other than that of the settings from which the warehouse was loaded; None if there is none."""
    with transaction(settings) as db:
        if not table_exists(db, "meta.ingested_files"):
            return None
        db.execute("select min(bucket) from meta.ingested_files where bucket <> %s", (settings.s3_bucket_name,))
        found = db.fetchone()
        return found[0] if found else None


def main() -> int:
    """Upload the sample with the settings of the environment or `.env`. Returns the exit code."""
    upload_sample(load_settings())
    return 0


if __name__ == "__main__":
    from etl.console.command import run_cli
    from etl.console.output import configure_logging

    configure_logging("info")
    raise SystemExit(run_cli(main))
