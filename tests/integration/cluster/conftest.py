"""Fixtures: a Dask cluster, and `python main.py` with settings for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from dask_cluster import DaskCluster, dask_cluster
from support import environment_of, run_python

from etl.utils.utils_connection import Settings

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """Return a function that runs `python main.py` with the settings, some of them replaced."""

    def run(*arguments: str, **environment: str) -> CompletedProcess[str]:
        return run_python(tmp_path, "main.py", *arguments, environment=environment_of(settings) | environment)

    return run


@pytest.fixture
def cluster(settings: Settings, tmp_path: Path) -> Iterator[DaskCluster]:
    """Start a scheduler and two workers with the settings in their environment."""
    with dask_cluster(tmp_path, settings) as cluster:
        yield cluster
