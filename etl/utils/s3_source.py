"""List and download the source objects in S3."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from etl.utils.day import Day
from etl.utils.error_hints import translate_s3_errors
from etl.utils.errors import DataRefusedError, SourceError, shorten
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceObject:
    """An S3 object in the version that was listed. The same key, ETag and size mean the same content."""

    bucket: str
    key: str
    etag: str
    size: int

    @property
    def version(self) -> SourceObject:
        """The fields that identify a version of an object, without those of subclasses."""
        return SourceObject(self.bucket, self.key, self.etag, self.size)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class SnapshotFile(SourceObject):
    """A daily CSV snapshot of the CRM."""

    day: Day


class Listing(NamedTuple):
    """The CSV snapshots in S3: files in numeric order, and refused ones whose day is not clear."""

    files: list[SnapshotFile]
    refused: list[DataRefusedError]
    keys: frozenset[str]
    """The keys of all snapshots, refused ones included."""


@retry_transient()
def discover_snapshots(client: S3Client, settings: Settings) -> Listing:
    """List the CSV snapshots under S3_SFTP_FILES_PREFIX: prefix + number + `.csv`.

    Keys with the same number (`data_1.csv` and `data_01.csv`), and numbers beyond the calendar, are refused.

    Raises:
        SourceError: S3 cannot be read, or contains no snapshot.
    """
    bucket, prefix = settings.csv_bucket, settings.s3_sftp_files_prefix
    numbered = re.compile(re.escape(prefix) + r"([0-9]+)\.csv")
    listed_by_number: dict[int, list[SourceObject]] = {}
    for listed, _ in list_objects(client, bucket, prefix):
        match = numbered.fullmatch(listed.key)
        number = int(match[1]) if match else 0
        if number < 1:
            log.warning("%s ignored: the key of a snapshot is %s<number from 1>.csv", listed, prefix)
            continue
        listed_by_number.setdefault(number, []).append(listed)
    if not listed_by_number:
        raise SourceError(
            f"s3://{bucket}/{prefix}*.csv: no CSV file under this prefix",
            hint="check S3_SFTP_FILES_PREFIX and S3_BUCKET_NAME (or S3_SFTP_BUCKET), and that the files were uploaded",
        )
    return _by_day(listed_by_number, settings.partition_start_date)


def list_objects(client: S3Client, bucket: str, prefix: str) -> Iterator[tuple[SourceObject, datetime]]:
    """Yield all objects under a prefix, each with its modification time.

    Raises:
        SourceError: S3 cannot be read.
    """
    with translate_s3_errors(f"listing s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield SourceObject(bucket, item["Key"], item["ETag"].strip('"'), item["Size"]), item["LastModified"]


def _by_day(listed_by_number: Mapping[int, Sequence[SourceObject]], partition_start_date: date) -> Listing:
    found = Listing([], [], frozenset(source.key for listed in listed_by_number.values() for source in listed))
    for number, listed in sorted(listed_by_number.items()):
        if len(listed) > 1:
            keys = " and ".join(source.key for source in listed)
            found.refused.append(
                DataRefusedError(
                    f"{keys} in bucket {listed[0].bucket} have the same file number, {number}",
                    hint="delete or rename all but one of them",
                )
            )
            continue
        (source,) = listed
        try:
            day = Day.of_file(number, partition_start_date)
        except OverflowError:
            found.refused.append(
                DataRefusedError(
                    f"{source}: {partition_start_date} + {shorten(number - 1)} days is not a valid date",
                    hint="rename the file, or correct PARTITION_START_DATE",
                )
            )
            continue
        found.files.append(SnapshotFile(source.bucket, source.key, source.etag, source.size, day))
    return found


@retry_transient()
def find_leads(client: S3Client, settings: Settings) -> SourceObject:
    """Return the current version of the leads parquet.

    Raises:
        SourceError: the object does not exist, or S3 cannot be read.
    """
    bucket, key = settings.parquet_bucket, settings.s3_parquet_file
    with translate_s3_errors(f"s3://{bucket}/{key}"):
        head = client.head_object(Bucket=bucket, Key=key)
    return SourceObject(bucket, key, head["ETag"].strip('"'), head["ContentLength"])


def download(client: S3Client, source: SourceObject) -> bytes:
    """Download an object in the version that was listed.

    Raises:
        SourceError: the object cannot be read, or has changed.
    """
    with translate_s3_errors(str(source)):
        body = client.get_object(Bucket=source.bucket, Key=source.key, IfMatch=f'"{source.etag}"')["Body"]
        raw = body.read()
    if len(raw) != source.size:
        raise SourceError(f"{source}: received {len(raw):,} of {source.size:,} bytes", hint="rerun", transient=True)
    return raw
