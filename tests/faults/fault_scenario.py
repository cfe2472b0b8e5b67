"""The scenario that every fault interrupts: a warehouse loaded from version A of the bucket, and a run to version B."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from support import GOLD_TABLES, PROJECT, Bucket, Warehouse, connection_arguments, environment_of

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

SEED = int(os.environ.get("FAULTS_SEED", "20241001"))
APPLICATION = "homebuddy-leads-etl"
GOLD = "gold.lead_quality_matching"
ROWS = 30
DAYS_OF_A = (1, 2, 3, 4)
CHANGED_DAY, NEW_DAY = 2, 5


def seeded_rng(what: str) -> random.Random:
    """Return a random number generator that gives the same numbers in every session."""
    return random.Random(f"{SEED} {what}")


# --- The two versions of the bucket -----------------------------------------------------------------------------------


def put_version_a(bucket: Bucket) -> None:
    bucket.clear()
    for number in DAYS_OF_A:
        bucket.put_snapshot(number, rows_of_day(number, "Boise"))
    put_leads(bucket, 8)


def put_version_b(bucket: Bucket) -> None:
    """Upload one changed day, one new day and other leads: every day of gold changes."""
    bucket.clear()
    for number in (*DAYS_OF_A, NEW_DAY):
        bucket.put_snapshot(number, rows_of_day(number, "Reno" if number == CHANGED_DAY else "Boise"))
    put_leads(bucket, 12)


def rows_of_day(number: int, city: str) -> list[dict[str, str]]:
    """Return ordinary rows, one row that is quarantined, and one separator."""
    rows = [
        {
            "LEADNUMBER": str(100 * number + row),
            "email_hash": f"e{row}",
            "phone_hash": f"p{row + row % 2}",
            "CITY": city,
        }
        for row in range(ROWS)
    ]
    return [*rows, {"LEADNUMBER": "no number"}, {"CITY": "-----"}]


def put_leads(bucket: Bucket, count: int) -> None:
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(count)])


# --- Databases that contain version A ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """Contents of the tables after a clean run of each version, and a template database that contains version A."""

    settings: Settings
    a: Mapping[str, str]
    b: Mapping[str, str]
    template: str = "version_a"

    @property
    def gold_of_a(self) -> dict[str, str]:
        return {table: self.a[table] for table in GOLD_TABLES}

    @property
    def gold_of_b(self) -> dict[str, str]:
        return {table: self.b[table] for table in GOLD_TABLES}


def create_scenario(server: Settings, s3_endpoint: str) -> Scenario:
    settings = server.model_copy(
        update={
            "aws_endpoint_url_s3": s3_endpoint,
            "s3_bucket_name": "faults",
            "max_reject_ratio": 1.0,
            "max_row_drop": 1.0,
            "max_row_growth": 1000.0,
            "max_repeated_leads": 1.0,
        }
    )
    bucket = Bucket(settings)
    bucket.client.create_bucket(Bucket=bucket.name)
    contents = []
    for put_version, database in ((put_version_b, "version_b"), (put_version_a, Scenario.template)):
        put_version(bucket)
        create_database(settings, database)
        settings_of_version = settings.model_copy(update={"postgres_db": database})
        assert run(settings_of_version).error is None
        contents.append(Warehouse(settings_of_version).contents())
        close_connections()
    b, a = contents
    assert all(a[table] != b[table] for table in a), "every table must differ between A and B"
    return Scenario(settings, a, b)


@contextmanager
def database_with_version_a(scenario: Scenario, name: str) -> Iterator[Settings]:
    """Yield a new database that contains version A; the bucket contains version B."""
    create_database(scenario.settings, name, template=scenario.template)
    settings = scenario.settings.model_copy(update={"postgres_db": name})
    bucket = Bucket(settings)
    bucket.client.create_bucket(Bucket=bucket.name)  # a test that mocks AWS in this process also empties the S3 server
    put_version_b(bucket)
    try:
        yield settings
    finally:
        close_connections()
        execute(scenario.settings, f"drop database {name} with (force)")


def create_database(settings: Settings, name: str, template: str = "template1") -> None:
    # The default strategy copies a sequence with the values that PostgreSQL has reserved but not logged: after a crash
    # before the next checkpoint the copy would give them twice (seen in PostgreSQL 15 and 18).
    execute(settings, f"create database {name} template {template} strategy file_copy")


def execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Execute one statement outside of any transaction, on a separate connection."""
    connection = psycopg2.connect(**connection_arguments(settings))
    try:
        connection.autocommit = True
        with connection.cursor() as db:
            db.execute(statement)
            return db.fetchall() if db.description else []
    finally:
        connection.close()


# --- Runs -------------------------------------------------------------------------------------------------------------


def run(settings: Settings, **options: Any) -> RunReport:
    """Run the pipeline in this process: half a second instead of two."""
    return run_steps(settings, choose_steps(), **options)


@contextmanager
def main_process(
    folder: Path, settings: Settings, *arguments: str, program: Path = PROJECT / "main.py"
) -> Iterator[subprocess.Popen[str]]:
    """Start `python main.py`; kill the process when the block ends."""
    base_environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments],
        cwd=folder,
        env={**base_environment, "AWS_EC2_METADATA_DISABLED": "true", **environment_of(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_running(process: subprocess.Popen[str], settings: Settings) -> None:
    """Wait until the run is recorded in meta.pipeline_runs."""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        if Warehouse(settings).value("select count(*) from meta.pipeline_runs where status = 'running'"):
            return
        time.sleep(0.01)
    assert process.poll() is not None, "no run began within 30 seconds"


def assert_one_clear_error(output: str, *named: str) -> None:
    """Assert that there is one error, which names the cause and the next action."""
    assert "Traceback" not in output
    assert output.count("error: ") == 1, output
    assert_clear(output[output.index("error: ") :], *named)


def assert_clear(error: object, *named: str) -> None:
    message = str(error)
    assert re.search(r"\n  → \S", message), f"no next action in: {message}"
    for name in named:
        assert name in message, f"{name!r} is not named in: {message}"


# --- Assertions -------------------------------------------------------------------------------------------------------


def assert_gold_is_complete(scenario: Scenario, settings: Settings) -> None:
    assert Warehouse(settings).gold() in (scenario.gold_of_a, scenario.gold_of_b), "gold is a mix of A and B"


def assert_equals_clean_run(scenario: Scenario, settings: Settings) -> None:
    """Assert that the tables equal those of a clean run of B: each file loaded once, nothing left in staging."""
    warehouse = Warehouse(settings)
    assert warehouse.contents() == scenario.b
    assert_nothing_left_behind(settings)
    files = warehouse.rows("select s3_key, bronze_rows from meta.ingested_files order by 1")
    days = [(f"SFTP/data_{number}.csv", ROWS + 2) for number in (*DAYS_OF_A, NEW_DAY)]
    assert files == [*days, ("parquet/leads.parquet", 12)]


def assert_nothing_left_behind(settings: Settings) -> None:
    warehouse = Warehouse(settings)
    assert warehouse.staging_tables() == []
    assert warehouse.value("select count(*) from meta.pipeline_runs where status = 'running'") == 0
    assert advisory_locks(settings) == 0


def advisory_locks(settings: Settings) -> int:
    return Warehouse(settings).value(
        "select count(*) from pg_locks join pg_database on pg_locks.database = pg_database.oid "
        "where locktype = 'advisory' and datname = current_database()"
    )


def assert_rerun_repairs_everything(scenario: Scenario, settings: Settings) -> None:
    report = run(settings)
    assert report.error is None, report.error
    assert report.exit_code == 0
    assert_equals_clean_run(scenario, settings)
