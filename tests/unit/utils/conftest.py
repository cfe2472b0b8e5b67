"""Fixtures: a mock S3 in memory, and an environment without settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PIPELINE_PREFIXES = ("POSTGRES_", "S3_", "AWS_", "PARTITION_", "JUPYTER_", "DASK_")


@pytest.fixture(scope="module")
def mock_client() -> Iterator[S3Client]:
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def s3(mock_client: S3Client) -> Iterator[S3Client]:
    """Yield a client of a mock S3 with one empty bucket, `leads`."""
    client = mock_client
    client.create_bucket(Bucket="leads")
    yield client
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for item in page.get("Contents", []):
                client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        client.delete_bucket(Bucket=bucket["Name"])


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give the test an environment without variables of the pipeline, and a folder without `.env`."""
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(PIPELINE_PREFIXES):
            del os.environ[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("etl.utils.utils_connection.PROJECT", tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)
