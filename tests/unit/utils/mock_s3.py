"""Settings for the mock S3 server, and uploads to it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def make_settings(**different: Any) -> Settings:
    given_settings: dict[str, Any] = {
        "postgres_user": "u",
        "postgres_password": "p",
        "postgres_db": "d",
        "postgres_host": "h",
        "s3_bucket_name": "leads",
        "s3_sftp_bucket": None,
        "s3_parquet_bucket": None,
        "s3_sftp_files_prefix": "SFTP/data_",
        "s3_parquet_file": "parquet/leads.parquet",
        "partition_start_date": date(2024, 10, 1),
    }
    return Settings(**(given_settings | different))


def put_objects(s3: S3Client, *keys: str, bucket: str = "leads", body: bytes = b"x") -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)
