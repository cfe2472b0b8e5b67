"""One warehouse and one bucket for all tests of a file: emptying them is faster than connecting again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from loads import DAYS, put_leads, rows_of_day
from random_snapshots import put_random_leads, steady_days
from support import Bucket, Warehouse, drop_schemas, empty_warehouse

from etl.engine.report import RunReport
from etl.utils.utils_connection import Settings

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


@pytest.fixture
def loaded_contents(emptied: None, bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> dict[str, str]:
    """Load five random days and their leads; return the contents of all tables."""
    del emptied
    rng = random.Random("loaded")
    put_random_leads(bucket, rng)
    for number, rows in enumerate(steady_days(rng, 5), start=1):
        bucket.put_snapshot(number, rows)
    assert run_pipeline().error is None
    return warehouse.contents()
