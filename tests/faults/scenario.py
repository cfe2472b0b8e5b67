"""The story that every fault interrupts: a warehouse loaded from version A of the bucket, a run towards version B."""

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

from etl.engine.report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

LONG = os.environ.get("FAULTS") == "long"
"""The counts of docs/reliability.md instead of the short ones of `make test`."""
SEED = int(os.environ.get("FAULTS_SEED", "20241001"))
APPLICATION = "homebuddy-leads-etl"
GOLD = "gold.lead_quality_matching"
ROWS = 30
DAYS_OF_A = (1, 2, 3, 4)
CHANGED_DAY, NEW_DAY = 2, 5


def times(short: int, long: int) -> int:
    return long if LONG else short


def dice(what: str) -> random.Random:
    """Random numbers that are the same in every session."""
    return random.Random(f"{SEED} {what}")


# --- the bucket's two versions ----------------------------------------------------------------------------------------


def put_version_a(bucket: Bucket) -> None:
    bucket.clear()
    for number in DAYS_OF_A:
        bucket.put_snapshot(number, rows_of_day(number, "Boise"))
    put_leads(bucket, 8)


def put_version_b(bucket: Bucket) -> None:
    """One changed day, one new day, other leads: every day of gold becomes another one."""
    bucket.clear()
    for number in (*DAYS_OF_A, NEW_DAY):
        bucket.put_snapshot(number, rows_of_day(number, "Reno" if number == CHANGED_DAY else "Boise"))
    put_leads(bucket, 12)


def rows_of_day(number: int, city: str) -> list[dict[str, str]]:
    """Ordinary rows, one that is quarantined, one separator."""
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


# --- databases that begin with version A ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What the tables hold after a clean run of each version, and a database to copy that holds version A."""

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


def tell_story(server: Settings, s3_endpoint: str) -> Story:
    settings = server.model_copy(
        update={
            "aws_endpoint_url_s3": s3_endpoint,
            "s3_bucket_name": "faults",
            "max_reject_ratio": 1.0,
            "max_row_drop": 1.0,
            "max_row_growth": 1000.0,
        }
    )
    bucket = Bucket(settings)
    bucket.client.create_bucket(Bucket=bucket.name)
    contents = []
    for put_version, database in ((put_version_b, "version_b"), (put_version_a, Story.template)):
        put_version(bucket)
        create_database(settings, database)
        of_its_own = settings.model_copy(update={"postgres_db": database})
        assert run(of_its_own).error is None
        contents.append(Warehouse(of_its_own).contents())
        close_connections(of_its_own)
    b, a = contents
    assert all(a[table] != b[table] for table in a), "every table shall tell A from B"
    return Story(settings, a, b)


@contextmanager
def database_with_version_a(story: Story, name: str) -> Iterator[Settings]:
    """A database of its own that holds version A, in front of a bucket that holds version B."""
    create_database(story.settings, name, template=story.template)
    settings = story.settings.model_copy(update={"postgres_db": name})
    bucket = Bucket(settings)
    bucket.client.create_bucket(Bucket=bucket.name)  # whoever mocks AWS in this process empties the server as well
    put_version_b(bucket)
    try:
        yield settings
    finally:
        close_connections(settings)
        execute(story.settings, f"drop database {name} with (force)")


def create_database(settings: Settings, name: str, template: str = "template1") -> None:
    # The default strategy copies a sequence with the values that PostgreSQL has reserved but not logged: after a crash
    # before the next checkpoint the copy would give them twice (seen in PostgreSQL 15 and 18).
    execute(settings, f"create database {name} template {template} strategy file_copy")


def execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Execute one statement outside of any transaction, on a connection that the pipeline does not know of."""
    connection = psycopg2.connect(**connection_arguments(settings))
    try:
        connection.autocommit = True
        with connection.cursor() as db:
            db.execute(statement)
            return db.fetchall() if db.description else []
    finally:
        connection.close()


# --- runs -------------------------------------------------------------------------------------------------------------


def run(settings: Settings, **options: Any) -> RunReport:
    """A plain run inside this process: half a second instead of two."""
    return run_steps(settings, choose_steps(), **options)


@contextmanager
def started(
    folder: Path, settings: Settings, *arguments: str, program: Path = PROJECT / "main.py"
) -> Iterator[subprocess.Popen[str]]:
    """`python main.py` as a process of its own; it does not outlive the block."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments],
        cwd=folder,
        env={**surroundings, "AWS_EC2_METADATA_DISABLED": "true", **environment_of(settings)},
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
    """Until the run has entered itself into the books."""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        if Warehouse(settings).value("select count(*) from meta.pipeline_runs where status = 'running'"):
            return
        time.sleep(0.01)


def assert_one_clear_error(said: str, *named: str) -> None:
    """One error that names what is wrong and where, and says what to do next."""
    assert "Traceback" not in said
    assert said.count("error: ") == 1, said
    assert_clear(said[said.index("error: ") :], *named)


def assert_clear(error: object, *named: str) -> None:
    message = str(error)
    assert re.search(r"\n  → \S", message), f"no next action in: {message}"
    for name in named:
        assert name in message, f"{name!r} is not named in: {message}"


# --- what must hold afterwards ----------------------------------------------------------------------------------------


def assert_gold_is_complete(story: Story, settings: Settings) -> None:
    assert Warehouse(settings).gold() in (story.gold_of_a, story.gold_of_b), "gold is a mix of the old and the new"


def assert_as_after_a_clean_run(story: Story, settings: Settings) -> None:
    """Equal to a clean run of B: every file loaded once, nothing left behind."""
    warehouse = Warehouse(settings)
    assert warehouse.contents() == story.b
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


def assert_one_rerun_mends_everything(story: Story, settings: Settings) -> None:
    report = run(settings)
    assert report.error is None, report.error
    assert report.exit_code == 0
    assert_as_after_a_clean_run(story, settings)
