"""Fixtures: a database that the workers know, and a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blocked_tables import DATABASE
from dask_cluster import PLAIN_WORKER, DaskCluster, dask_cluster
from fault_scenario import Scenario, database_with_version_a

from etl.utils.utils_connection import Settings


@pytest.fixture
def settings(scenario: Scenario) -> Iterator[Settings]:
    """Yield a database with the name that the workers know. It contains version A; the bucket contains version B."""
    with database_with_version_a(scenario, DATABASE) as settings:
        yield settings


@pytest.fixture(scope="module")
def workers(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Start a scheduler and two workers. A test that kills a worker starts another one."""
    worker_settings = scenario.settings.model_copy(update={"postgres_db": DATABASE})
    with dask_cluster(tmp_path_factory.mktemp("cluster"), worker_settings, worker=PLAIN_WORKER) as cluster:
        yield cluster
