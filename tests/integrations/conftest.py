"""A warehouse with the sample for all tests of BI tools, and its role for readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import PASSWORD
from pydantic import SecretStr
from support import PROJECT, Warehouse, empty_warehouse

from etl.engine.runner import run_steps
from etl.local.s3_server import upload_folder
from etl.local.sample_data import write_sample
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings, s3_client


@pytest.fixture(scope="session")
def settings(
    postgres_server: Settings, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Yield the warehouse of the sample, in which bi_reader has a password."""
    sample = tmp_path_factory.mktemp("sample")
    write_sample(sample)
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        settings = settings.model_copy(update={"bi_reader_password": SecretStr(PASSWORD)})
        upload_folder(s3_client(settings), settings.s3_bucket_name, sample)
        assert run_steps(settings, STEPS).error is None
        yield settings


@pytest.fixture(scope="session")
def warehouse(settings: Settings) -> Warehouse:
    """Return the owner's access to the warehouse."""
    return Warehouse(settings)


@pytest.fixture(scope="session")
def reader(settings: Settings) -> Warehouse:
    update = {"postgres_user": "bi_reader", "postgres_password": SecretStr(PASSWORD)}
    return Warehouse(settings.model_copy(update=update))


@pytest.fixture(scope="session")
def reader_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a BI tool: libpq's variables name the warehouse and the role bi_reader."""
    return {
        **os.environ,
        "PGHOST": settings.postgres_host,
        "PGPORT": str(settings.postgres_port),
        "PGDATABASE": settings.postgres_db,
        "PGUSER": "bi_reader",
        "PGPASSWORD": PASSWORD,
    }


@pytest.fixture(scope="session")
def tool() -> dict[str, Path]:
    """Return the folders of the programs of dbt and Superset. Skips the test where they are not installed."""
    folders = {name: PROJECT / f".venv-{name}" / "bin" for name in ("dbt", "superset")}
    missing = [name for name, folder in folders.items() if not (folder / name).exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}. `make integrations` installs them")
    return folders
