"""Fixtures: one warehouse, one bucket and one Dask cluster for all tests of a file, and `python main.py` for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from dask_cluster import PLAIN_WORKER, DaskCluster, dask_cluster
from support import Bucket, drop_schemas, empty_warehouse, environment_of, run_python

from etl.utils.utils_connection import Settings

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    with empty_warehouse(postgres_server, s3_endpoint, request.module.__name__) as settings:
        yield settings


@pytest.fixture
def run(settings: Settings, bucket: Bucket, tmp_path: Path) -> Run:
    """Empty warehouse and bucket; return a function that runs `python main.py` with the settings, some replaced."""
    bucket.clear()
    drop_schemas(settings)

    def run(*arguments: str, **environment: str) -> CompletedProcess[str]:
        return run_python(tmp_path, "main.py", *arguments, environment=environment_of(settings) | environment)

    return run


@pytest.fixture(scope="module")
def cluster(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Start a scheduler and two workers with the settings in their environment."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), settings, worker=PLAIN_WORKER) as cluster:
        yield cluster
