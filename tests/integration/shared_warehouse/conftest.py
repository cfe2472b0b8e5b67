"""One warehouse and one bucket for all tests of a file: emptying them is faster than connecting again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
import tenacity
from loads import DAYS, put_leads, rows_of_day
from random_snapshots import put_random_leads, steady_days
from support import Bucket, Warehouse, connection_arguments, drop_schemas, empty_warehouse

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    with empty_warehouse(postgres_server, s3_endpoint, request.module.__name__) as settings:
        yield settings


@pytest.fixture
def emptied(settings: Settings, bucket: Bucket) -> None:
    """Empty warehouse and bucket before the test."""
    bucket.clear()
    drop_schemas(settings)


@pytest.fixture
def loaded(emptied: None, bucket: Bucket, run_pipeline: Run) -> None:
    """Load three days and their leads with one complete run."""
    del emptied
    for number in DAYS:
        bucket.put_snapshot(number, rows_of_day(number))
    put_leads(bucket)
    assert run_pipeline().error is None


@pytest.fixture(scope="module")
def loaded_database(settings: Settings) -> Iterator[str]:
    """Load five random days and their leads; yield the name of a copy of the database."""
    bucket = Bucket(settings)
    bucket.clear()
    drop_schemas(settings)
    put_five_days(bucket)
    assert run_steps(settings, choose_steps()).error is None
    copy = f"{settings.postgres_db}_loaded"
    copy_database(settings, settings.postgres_db, copy)
    yield copy
    in_other_database(settings, f"drop database {copy}")


@pytest.fixture
def loaded_contents(loaded_database: str, settings: Settings, bucket: Bucket, warehouse: Warehouse) -> dict[str, str]:
    """Have five random days and their leads loaded; return the contents of all tables."""
    bucket.clear()
    put_five_days(bucket)
    copy_database(settings, loaded_database, settings.postgres_db)
    return warehouse.contents()


def put_five_days(bucket: Bucket) -> None:
    rng = random.Random("loaded")
    put_random_leads(bucket, rng)
    for number, rows in enumerate(steady_days(rng, 5), start=1):
        bucket.put_snapshot(number, rows)


def copy_database(settings: Settings, source: str, copy: str) -> None:
    """Replace a database by a copy of another one, which is faster than loading the same files again."""
    close_connections()
    in_other_database(
        settings, f"drop database if exists {copy} with (force)", f"create database {copy} template {source}"
    )


def in_other_database(settings: Settings, *statements: str) -> None:
    other = connection_arguments(settings) | {"dbname": "postgres"}
    with closing(psycopg2.connect(**other)) as connection, connection.cursor() as db:
        connection.autocommit = True
        for statement in statements:
            retry_while_autovacuum_runs(db.execute, statement)


retry_while_autovacuum_runs = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(psycopg2.errors.InsufficientPrivilege),
    wait=tenacity.wait_fixed(0.2),
    stop=tenacity.stop_after_delay(20),
    reraise=True,
)
"""Retries while an autovacuum worker is active in a database to be dropped: only a superuser may terminate it."""
