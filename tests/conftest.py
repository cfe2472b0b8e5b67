"""Shared fixtures: a PostgreSQL server, an S3 server, and the real files where they are available."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from servers import embedded_folder, start_embedded
from support import PROJECT, Bucket, Warehouse, empty_warehouse, run_python

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.local.s3_server import s3_server
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

# The settings of a dev container, which has them in its environment, are not for tests.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)

REAL = PROJECT.parent / "shared" / "real"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real files: `SFTP/`, `parquet/` and `expected.json`."""
    if not (REAL / "expected.json").exists():
        pytest.skip("the real files are not available: ../shared/real")
    return REAL


@pytest.fixture(scope="module", autouse=True)
def no_idle_connections() -> Iterator[None]:
    """Close what the tests of a module leave idle: other tests wait until no session is left, or count sessions."""
    yield
    close_connections()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Settings]:
    with embedded_folder() as root:
        yield start_embedded(root)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def settings(postgres_server: Settings, s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Yield the settings of an empty warehouse and an empty bucket."""
    with empty_warehouse(postgres_server, s3_endpoint, request.node.nodeid) as settings:
        yield settings


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings)


@pytest.fixture
def run_pipeline(settings: Settings) -> Callable[..., RunReport]:
    """Run steps in this process: `run_pipeline(from_step=3, full_refresh=True)`."""

    def run(from_step: int = 1, only_step: int | None = None, **options: Any) -> RunReport:
        return run_steps(settings, choose_steps(from_step, only_step), **options)

    return run


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python on the project in a new process: `python("main.py", environment=environment_of(settings))`."""

    def run(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return run_python(tmp_path, *arguments, environment=environment)

    return run


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    return Bucket(settings)
