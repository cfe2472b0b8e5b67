"""The demo in an environment that configures libpq, boto3, pip and the pipeline for other servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from support import PROJECT, Bucket

from etl.local import demo as demo_module
from etl.local.demo import ignore_environment, upload_sample
from etl.local.postgres_cluster import EmbeddedError
from etl.local.sample_data import write_sample
from etl.utils import utils_connection
from etl.utils.errors import SettingsError
from etl.utils.utils_connection import Settings, connect_postgres, s3_client

if TYPE_CHECKING:
    from conftest import Demo

PG_VARIABLES = {
    "PGSSLMODE": "require",
    "PGSERVICE": "prod",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "md5",
    "PGGSSENCMODE": "require",
    "PGTARGETSESSIONATTRS": "read-only",
}
AWS_VARIABLES = {
    "AWS_PROFILE": "left-over",
    "AWS_DEFAULT_PROFILE": "left-over",
    "AWS_DEFAULT_REGION": "no-such-region",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_CONFIG_FILE": "config",
    "AWS_SESSION_TOKEN": "expired",
}
OTHER_VARIABLES = {
    "PGHOSTADDR": "127.0.0.2",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGDATABASE": "postgres",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_TARGET": "/nonexistent",
    "PIP_INDEX_URL": "http://127.0.0.1:9",
    "POSTGRES_HOST": "warehouse.invalid",
    "POSTGRES_SSLMODE": "verify-full",
    "S3_BUCKET_NAME": "real-leads",
    "S3_SFTP_FILES_PREFIX": "elsewhere/",
    "S3_IAM_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
    "PARTITION_START_DATE": "never",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", PG_VARIABLES)
def test_variable_of_libpq_is_ignored(postgres_server: Settings, name: str) -> None:
    os.environ[name] = PG_VARIABLES[name]
    with pytest.raises(psycopg2.OperationalError):
        connect_postgres(postgres_server)
    ignore_environment()
    connect_postgres(postgres_server).close()


@pytest.mark.usefixtures("environment")
def test_address_of_libpq_does_not_redirect_a_run(postgres_server: Settings) -> None:
    os.environ["PGHOSTADDR"] = "127.0.0.2"
    connect_postgres(postgres_server).close()


def test_reading_a_demo_that_has_not_run_creates_no_warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_module, "PROJECT", tmp_path)
    with pytest.raises(EmbeddedError, match="the demo has not run yet"):
        demo_module.running_demo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("environment")
def test_env_file_that_cannot_be_read_is_not_replaced_by_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ.pop("POSTGRES_HOST", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils_connection, "PROJECT", tmp_path)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / demo_module.FILLED_FROM).write_text("/sample")
    monkeypatch.setattr(demo_module, "running_demo", lambda: "the demo")
    assert demo_module.settings_or_demo() == "the demo"
    (tmp_path / ".env").write_bytes("POSTGRES_HOST=warehouse.invalid\n".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8"):
        demo_module.settings_or_demo()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", AWS_VARIABLES)
def test_variable_of_boto3_is_ignored(settings: Settings, tmp_path: Path, name: str) -> None:
    os.environ[name] = AWS_VARIABLES[name]
    (tmp_path / "config").write_text("this is no configuration")
    if name == "AWS_CONFIG_FILE":
        os.environ[name] = str(tmp_path / "config")
    ignore_environment()
    s3_client.cache_clear()
    assert s3_client(settings).list_objects_v2(Bucket=settings.s3_bucket_name)["KeyCount"] == 0


def test_demo_succeeds_with_all_variables_set(demo: Demo, tmp_path: Path) -> None:
    write_sample(tmp_path / "data", scale=0.01, days=1)
    (tmp_path / "config").write_text("this is no configuration")
    done = subprocess.run(
        [sys.executable, PROJECT / "main.py", "--demo", "--data", tmp_path / "data"],
        cwd=demo.folder,
        env=os.environ | PG_VARIABLES | AWS_VARIABLES | OTHER_VARIABLES | {"AWS_CONFIG_FILE": str(tmp_path / "config")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert demo.query("select count(*) > 0 from gold.lead_quality_matching") == [(True,)]


def test_sample_overwrites_no_other_objects(
    settings: Settings, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket.put("SFTP/data_1.csv", b"real")
    with pytest.raises(SettingsError, match=r"not part of the sample, such as SFTP/data_1\.csv"):
        upload_sample(settings)
    stored = s3_client(settings).get_object(Bucket=settings.s3_bucket_name, Key="SFTP/data_1.csv")
    assert stored["Body"].read() == b"real"
