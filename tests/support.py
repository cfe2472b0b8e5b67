"""Helpers besides fixtures: access to tables, files for the bucket, processes of the project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from pydantic import SecretStr

from etl.utils.utils_connection import Settings, s3_client
from etl.warehouse.transactions import close_connections

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PROJECT = Path(__file__).parents[1]
LONG = os.environ.get("FAULTS") == "long"
"""Use the counts of docs/reliability.md instead of the short ones of `make test`."""
SCHEMAS = ("bronze", "silver", "gold", "meta", "partitions", "staging")


WAITING_SESSIONS = (
    "select pid from pg_locks where not granted "
    "and database = (select oid from pg_database where datname = current_database())"
)
"""Query for the sessions of a database that wait for a lock."""


def times(short: int, long: int) -> int:
    return long if LONG else short


@contextmanager
def empty_warehouse(postgres_server: Settings, s3_endpoint: str, owner: str) -> Iterator[Settings]:
    """Yield the settings of an empty warehouse and an empty bucket. All tests of a session share it."""
    drop_schemas(postgres_server)
    bucket = f"test-{abs(hash(owner)):x}"
    settings = postgres_server.model_copy(
        update={
            "aws_endpoint_url_s3": s3_endpoint,
            "s3_bucket_name": bucket,
            # files of most tests have few rows, and invalid ones
            "max_reject_ratio": 1.0,
            "max_row_drop": 1.0,
            "max_row_growth": 1000.0,
            "max_repeated_leads": 1.0,
        }
    )
    s3_client(settings).create_bucket(Bucket=bucket)
    yield settings
    close_connections()


def drop_schemas(settings: Settings) -> None:
    """Drop all schemas of the warehouse, including that of the load ledger."""
    with psycopg2.connect(**connection_arguments(settings)) as connection, connection.cursor() as db:
        db.execute(f"drop schema if exists {', '.join(SCHEMAS)} cascade")
    connection.close()


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """Return arguments for psycopg2, independent of the pipeline."""
    return {
        "host": settings.postgres_host,
        "port": settings.postgres_port,
        "user": settings.postgres_user,
        "password": settings.postgres_password.get_secret_value(),
        "dbname": settings.postgres_db,
    }


class Warehouse:
    """Access to the tables, independent of the pipeline."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(**connection_arguments(self.settings))
        try:
            with connection, connection.cursor() as db:
                db.execute(query, parameters or None)
                return db.fetchall() if db.description else []
        finally:
            connection.close()

    def value(self, query: str, *parameters: Any) -> Any:
        return self.rows(query, *parameters)[0][0]

    def contents(self) -> dict[str, str]:
        """Return a fingerprint per table, without run ids, times, and ids that depend on earlier loads."""
        return self.fingerprints(CONTENT_TABLES)

    def gold(self) -> dict[str, str]:
        """Return a fingerprint per gold table."""
        return self.fingerprints(GOLD_TABLES)

    def staging_tables(self) -> list[str]:
        """Return the names of the tables in schema staging."""
        tables = self.rows("select tablename from pg_tables where schemaname = 'staging' order by 1")
        return [name for (name,) in tables]

    def fingerprint(self, table: str) -> str:
        """Return a checksum that is equal for equal rows in any order."""
        return self.fingerprints([table])[table]

    def fingerprints(self, tables: Iterable[str]) -> dict[str, str]:
        """Return `fingerprint` of each table, read by one query."""
        row = "to_jsonb(t) - array['run_id', 'rejected_at', '_extraction_date', 'appointment_id']"
        checksum = f"coalesce(sum(('x' || left(md5(({row})::text), 15))::bit(60)::bigint), 0)"
        queries = [f"select '{table}', count(*) || ':' || {checksum} from {table} t" for table in tables]
        return dict(self.rows(" union all ".join(queries)) if queries else ())


CASES = Path(__file__).parents[2] / "shared" / "cases"
"""Inputs on which earlier versions fell short; absent in most checkouts."""

CONTENT_TABLES = (
    "bronze.csv_snapshots",
    "bronze.leads_parquet",
    "silver.stg_csv_snapshots",
    "silver.stg_leads_parquet",
    "silver.rejected_rows",
    "gold.lead_quality_matching",
    "gold.leads",
    "gold.lead_quality_current",
    "gold.appointments",
    "gold.lead_status_history",
)

GOLD_TABLES = tuple(table for table in CONTENT_TABLES if table.startswith("gold."))
"""All of them are replaced in one transaction."""


class Bucket:
    """The S3 bucket of a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client: S3Client = s3_client(settings)
        self.name = settings.s3_bucket_name

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def clear(self) -> None:
        """Delete all objects."""
        if listed := self.client.list_objects_v2(Bucket=self.name).get("Contents", []):
            self.client.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": found["Key"]} for found in listed]}
            )

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put_snapshot(self, number: int, rows: Sequence[dict[str, str]], header: Sequence[str] | None = None) -> None:
        """Write file `number`; a row names the cells that matter, all other cells are ordinary."""
        header = header or HEADER
        lines = [",".join(header), *(",".join((ORDINARY_ROW | row).get(name, "") for name in header) for row in rows)]
        self.put(f"SFTP/data_{number}.csv", ("\n".join(lines) + "\n").encode())

    def put_leads(self, leads: Sequence[tuple[str | None, str | None, str | None]]) -> None:
        """Write the parquet: rows of `lead_UUID, phone_hash, email_hash`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = list(zip(*leads, strict=True)) or [(), (), ()]
        names = ["lead_UUID", "phone_hash", "email_hash"]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table([pa.array(column, pa.string()) for column in columns], names=names), sink)
        self.put("parquet/leads.parquet", sink.getvalue().to_pybytes())

    def put_folder(self, folder: Path) -> None:
        """Upload a folder that holds SFTP/ and parquet/."""
        for file in (*folder.glob("SFTP/*.csv"), *folder.glob("parquet/*.parquet")):
            self.put(file.relative_to(folder).as_posix(), file.read_bytes())


HEADER = tuple(
    "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status".split(",")
)
ORDINARY_ROW = {
    "ENTRYDATE": "02/05/2023",
    "LEADNUMBER": "1",
    "email_hash": "e1",
    "phone_hash": "p1",
    "CITY": "Boise",
    "CityName": "Boise",
    "STATE": "ID",
    "ZIP": "83701",
    "Appt Date": "12/13/2022  1:00PM",
    "Set": "1",
    "Demo": "0",
    "Dispo": "Data",
    "Job Status": "",
    "location": "Boise | ID",
}


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the settings as environment variables."""
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings
        if value is not None
    }


def run_python(
    folder: Path, *arguments: str, environment: Mapping[str, str], project: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    """Run Python on the project, in a folder without `.env`, with only these environment variables.

    Args:
        project: another checkout, such as one of an earlier version.
    """
    arguments = tuple(str(project / name) if name == "main.py" else name for name in arguments)
    return _run(folder, sys.executable, *arguments, **{"PYTHONPATH": str(project)} | environment)


def _run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"} | variables
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def run_case(name: str, folder: Path, *, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Execute `run.sh` of a case as it is, in a checkout that consists of links; skip where the case is absent."""
    script = CASES / name / "run.sh"
    if not script.exists():
        pytest.skip(f"{script} is not there")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / "main.py").symlink_to(PROJECT / "main.py")
    return _run(folder, "sh", str(script.resolve()), PROJECT=str(folder), **environment)


def read_terminal(end: int) -> str:
    """Read from a pseudo-terminal until the program has closed its end; close this end, too."""
    seen = b""
    try:
        while chunk := os.read(end, 4096):
            seen += chunk
    except OSError:  # raised by Linux when the other end is closed
        pass
    os.close(end)
    return seen.decode()
