"""An empty warehouse and bucket per test, with the default limits for files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Bucket, Warehouse, drop_schemas, empty_warehouse

from etl.utils.utils_connection import Settings


@pytest.fixture(scope="module")
def shared_settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings.model_copy(
            update={"max_reject_ratio": 0.05, "max_row_drop": 0.5, "max_row_growth": 1.0, "max_repeated_leads": 0.5}
        )


@pytest.fixture
def settings(shared_settings: Settings) -> Settings:
    """Settings of an empty warehouse and an empty bucket, with the default limits."""
    drop_schemas(shared_settings)
    Bucket(shared_settings).clear()
    return shared_settings


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    return Bucket(settings)


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings)
