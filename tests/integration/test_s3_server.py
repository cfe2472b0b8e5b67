"""The embedded S3 server serves a folder until it is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionError as S3ConnectionError

from etl.local import s3_server as s3_module
from etl.local.postgres_cluster import EmbeddedError
from etl.local.s3_server import s3_server, upload_folder

PROJECT = Path(__file__).resolve().parents[2]


# --- S3 ---------------------------------------------------------------------------------------------------------------


def s3_client_of(endpoint: str, region: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, connect_timeout=2),
    )


def test_s3_server_serves_an_uploaded_folder_until_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("SFTP/data_1.csv", "SFTP/notes.txt", "parquet/leads.parquet", "data_2.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    caplog.set_level("DEBUG")
    with s3_server() as endpoint:
        for region in ("us-east-1", "eu-north-1"):
            s3 = s3_client_of(endpoint, region)
            assert upload_folder(s3, region, tmp_path) == 2
            assert upload_folder(s3, region, tmp_path) == 2  # the bucket exists already
            keys = [item["Key"] for item in s3.list_objects_v2(Bucket=region)["Contents"]]
            assert keys == ["SFTP/data_1.csv", "parquet/leads.parquet"]
            assert s3.get_object(Bucket=region, Key="SFTP/data_1.csv")["Body"].read() == b"SFTP/data_1.csv"
    with pytest.raises(S3ConnectionError):
        s3.list_buckets()
    assert not [record for record in caplog.records if record.name == "werkzeug"]


def test_buckets_exist_until_the_last_s3_server_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "_open_s3_servers", set())  # servers of other tests do not count
    forgotten = []
    monkeypatch.setattr(s3_module, "_delete_buckets", lambda host, port: forgotten.append((host, port)))
    with s3_server() as endpoint:
        s3 = s3_client_of(endpoint, "us-east-1")
        s3.create_bucket(Bucket="kept")
        with s3_server():
            pass
        assert forgotten == []
        assert "kept" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert [f"http://{host}:{port}" for host, port in forgotten] == [endpoint]


def test_folder_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="neither"):
        upload_folder(None, "leads", tmp_path)  # type: ignore[arg-type]
