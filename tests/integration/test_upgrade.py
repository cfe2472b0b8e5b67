"""One run without options upgrades a warehouse that the previous version has filled.

The previous version fills it in a separate process. Nothing is loaded into bronze again, gold stays readable, and the
next run completes an upgrade that was killed.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from support import PROJECT, Bucket, Warehouse, connection_arguments, drop_schemas, environment_of, run_python

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse import transactions

Run = Callable[..., RunReport]

PREVIOUS_VERSION = "c33c716"
"""The last commit without numbered migrations, content hashes and code versions."""
DAYS = (1, 2, 3, 4)
LEADS = range(8)
DELETED_APPOINTMENT = {"LEADNUMBER": "99", "email_hash": "e7", "phone_hash": "p7", "Appt Date": "12/24/2024  9:00AM"}
"""Has the highest appointment id, and is removed by a corrected file."""

BRONZE = "select table_name, load_id, table_oid from meta.table_loads where parent_table like 'bronze.%' order by 1"
LEDGER = "select table_name, load_id from meta.table_loads order by 1"
APPOINTMENT_IDS = "select lead_uuid, appointment_date, appointment_id from gold.appointments"
KEYS_OF_THE_FACT = """
    select contype::text, conenforced from pg_constraint
    where conrelid = 'gold.lead_quality_matching'::regclass and contype in ('p', 'f') order by 1
"""
GOLD_COUNTS = """
    select
        (select count(*) from gold.lead_quality_matching),
        (select count(distinct _partition_date) from gold.lead_quality_matching),
        (select count(*) from gold.leads),
        (select count(*) from gold.lead_quality_current),
        (select sum(row_count) from gold.match_scenarios)
"""


@pytest.fixture(scope="module")
def previous_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extract the code of the previous version into a folder."""
    if shutil.which("git") is None:
        pytest.skip("the previous version is taken from the repository, and there is no git")
    archive = subprocess.run(
        ["git", "archive", PREVIOUS_VERSION, "main.py", "etl", "sql_scripts"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the previous version is not available: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def rows_of_day(number: int, *, city: str = "Boise") -> list[dict[str, str]]:
    """Return rows that stay and change from day to day, some without a lead, one rejected row, one separator."""
    rows = [
        {
            "LEADNUMBER": str(lead),
            "email_hash": f"e{lead}",
            "phone_hash": f"p{lead if lead % 3 else 'x'}",
            "CITY": city,
            "Dispo": "Sale" if lead < number else "Data",
            "Appt Date": f"12/{10 + lead}/2024  1:00PM" if lead % 2 else "",
        }
        for lead in range(len(LEADS) + 2)
    ]
    return [*rows, {"LEADNUMBER": "no number"}, dict.fromkeys(rows[0], "-----")]


@pytest.fixture
def old_appointment_ids(
    previous_version: Path, settings: Settings, bucket: Bucket, warehouse: Warehouse, tmp_path: Path
) -> dict[tuple[str, datetime], int]:
    """Fill the warehouse with the previous version: four days, then two corrected ones.

    Returns the ids that the previous version has assigned, including that of a deleted appointment.
    """

    def run_previous_version() -> None:
        environment = environment_of(settings)
        done = run_python(tmp_path, "main.py", environment=environment, project=previous_version)
        assert done.returncode == 0, done.stdout + done.stderr

    bucket.put_leads([(f"u{lead}", f"p{lead}", f"e{lead}") for lead in LEADS])
    for number in DAYS:
        bucket.put_snapshot(number, [*rows_of_day(number), *([DELETED_APPOINTMENT] if number == DAYS[-1] else [])])
    run_previous_version()
    given = appointment_ids(warehouse)
    bucket.put_snapshot(2, rows_of_day(2, city="Reno")[1:])
    bucket.put_snapshot(DAYS[-1], rows_of_day(DAYS[-1]))
    run_previous_version()
    assert warehouse.value("select to_regclass('meta.migrations')") is None, "the previous version has no migrations"
    assert len(appointment_ids(warehouse)) == len(given) - 1
    return given


def appointment_ids(warehouse: Warehouse) -> dict[tuple[str, datetime], int]:
    return {(lead, moment): number for lead, moment, number in warehouse.rows(APPOINTMENT_IDS)}


def contents_of_fresh_warehouse(settings: Settings, run_pipeline: Run) -> dict[str, str]:
    """Return the contents that this version loads from the same files."""
    drop_schemas(settings)
    assert run_pipeline().error is None
    return Warehouse(settings).contents()


@contextmanager
def reader_of_gold(settings: Settings) -> Iterator[set[tuple[Any, ...]]]:
    """Count the rows of gold repeatedly in a thread while the block runs. Yields all results."""
    seen: set[tuple[Any, ...]] = set()
    errors: list[Exception] = []
    is_over = threading.Event()

    def read() -> None:
        connection = psycopg2.connect(**connection_arguments(settings))
        connection.autocommit = True
        try:
            with connection.cursor() as db:
                while not is_over.is_set():
                    db.execute(GOLD_COUNTS)
                    seen.update(db.fetchall())
        except psycopg2.Error as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
    assert errors == []


def test_plain_run_upgrades_the_warehouse(
    old_appointment_ids: dict[tuple[str, datetime], int],
    settings: Settings,
    bucket: Bucket,
    warehouse: Warehouse,
    run_pipeline: Run,
) -> None:
    bronze, counts, ids = warehouse.rows(BRONZE), warehouse.rows(GOLD_COUNTS), appointment_ids(warehouse)
    with reader_of_gold(settings) as seen:
        report = run_pipeline()
    assert report.error is None
    assert seen == set(counts), "gold was complete at every moment"
    assert warehouse.rows(BRONZE) == bronze, "nothing was loaded into bronze again"
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where _row_hash is null") == 0
    assert appointment_ids(warehouse) == ids
    assert warehouse.staging_tables() == []
    assert warehouse.rows(KEYS_OF_THE_FACT) == [("f", False), ("p", True)]
    assert warehouse.rows("select * from gold.leads_as_of('2024-10-04') except table gold.leads") == []
    assert warehouse.value("select count(*) from gold.leads_as_of('2024-10-04')") == counts[0][2]

    contents, ledger = warehouse.contents(), warehouse.rows(LEDGER)
    assert run_pipeline().error is None
    assert warehouse.rows(LEDGER) == ledger, "the next run has nothing to do"

    bucket.put_snapshot(5, [*rows_of_day(4), DELETED_APPOINTMENT | {"Appt Date": "12/25/2024  9:00AM"}])
    assert run_pipeline().error is None
    (new_id,) = set(appointment_ids(warehouse).values()) - set(ids.values())
    assert new_id > max(old_appointment_ids.values()), "no id is assigned twice, not even that of a deleted appointment"

    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_5.csv")
    assert contents == contents_of_fresh_warehouse(settings, run_pipeline)


@pytest.mark.usefixtures("old_appointment_ids")
def test_repeatedly_killed_upgrade_gives_the_same_tables(
    settings: Settings, warehouse: Warehouse, run_pipeline: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is killed at its first commit, and each run after it one commit later than the run before."""
    bronze, counts, ids = warehouse.rows(BRONZE), warehouse.rows(GOLD_COUNTS), appointment_ids(warehouse)
    kills = 0
    with reader_of_gold(settings) as seen:
        for last_commit in itertools.count(1):
            with monkeypatch.context() as patched:
                was_killed = kill_at_commit(last_commit, patched)
                try:
                    report = run_pipeline()
                except KeyboardInterrupt:
                    assert was_killed.is_set()
                    kills += 1
                    continue
            assert not was_killed.is_set()
            assert report.error is None
            break
    assert kills > 10
    assert seen == set(counts), "gold was complete at every moment"
    assert warehouse.rows(BRONZE) == bronze
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where _row_hash is null") == 0
    assert appointment_ids(warehouse) == ids
    assert warehouse.staging_tables() == []
    assert warehouse.contents() == contents_of_fresh_warehouse(settings, run_pipeline)


def kill_at_commit(last: int, patched: pytest.MonkeyPatch) -> threading.Event:
    """Raise KeyboardInterrupt instead of committing from commit number `last` on."""
    commit = transactions._commit
    numbers = itertools.count(1)
    was_killed = threading.Event()

    def commit_or_die(*arguments: Any) -> None:
        if next(numbers) >= last:
            was_killed.set()
            raise KeyboardInterrupt
        commit(*arguments)

    patched.setattr(transactions, "_commit", commit_or_die)
    return was_killed
