"""Fixtures: a database that the workers know, and a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blocked_tables import (
    DATABASE,
    PLAIN_WORKER,
)
from dask_cluster import DaskCluster, dask_cluster
from scenario import (
    Story,
    database_with_version_a,
)

from etl.utils.utils_connection import Settings


@pytest.fixture
def settings(story: Story) -> Iterator[Settings]:
    """A database of a name that the workers know, which holds version A, in front of a bucket that holds version B."""
    with database_with_version_a(story, DATABASE) as settings:
        yield settings


@pytest.fixture(scope="module")
def workers(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers; who kills one starts another one."""
    of_workers = story.settings.model_copy(update={"postgres_db": DATABASE})
    with dask_cluster(tmp_path_factory.mktemp("cluster"), of_workers, worker=PLAIN_WORKER) as cluster:
        yield cluster
