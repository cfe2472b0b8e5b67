"""The objects in S3: which there are, in which version, and their bytes. Knows boto3, no database and no frames."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from etl.utils.day import Day
from etl.utils.errors import DataRefusedError, SourceError, shorten
from etl.utils.patience import patient
from etl.utils.utils_connection import Settings, explained_s3_errors

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
        """Nothing but what tells one version of an object from another."""
        return SourceObject(self.bucket, self.key, self.etag, self.size)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class SnapshotFile(SourceObject):
    """A daily CSV snapshot of the CRM."""

    day: Day


class Discovered(NamedTuple):
    """The CSV snapshots in S3: those that can be told apart, in numeric order, and those that cannot."""

    files: list[SnapshotFile]
    refused: list[DataRefusedError]
    keys: frozenset[str]
    """All that were listed."""


@patient()
def discover_snapshots(client: S3Client, settings: Settings) -> Discovered:
    """List the CSV snapshots under S3_SFTP_FILES_PREFIX: prefix + number + `.csv`.

    Refused are keys that claim the same number (`data_1.csv` and `data_01.csv`), and numbers that no date fits.

    Raises:
        SourceError: S3 cannot be read, or no key fits.
    """
    bucket, prefix = settings.csv_bucket, settings.s3_sftp_files_prefix
    numbered = re.compile(re.escape(prefix) + r"([0-9]+)\.csv")
    listed_by_number: dict[int, list[SourceObject]] = {}
    for listed, _ in list_objects(client, bucket, prefix):
        match = numbered.fullmatch(listed.key)
        number = int(match[1]) if match else 0
        if number < 1:
            log.warning("%s is left out: snapshots are called %s<number from 1>.csv", listed, prefix)
            continue
        listed_by_number.setdefault(number, []).append(listed)
    if not listed_by_number:
        raise SourceError(
            f"s3://{bucket}/{prefix}*.csv: no CSV file under this prefix",
            hint="check S3_SFTP_FILES_PREFIX and S3_BUCKET_NAME (or S3_SFTP_BUCKET), and that the files were uploaded",
        )
    return _by_day(listed_by_number, settings.partition_start_date)


def list_objects(client: S3Client, bucket: str, prefix: str) -> Iterator[tuple[SourceObject, datetime]]:
    """All objects under a prefix, page by page, each with the moment in which it was written.

    Raises:
        SourceError: S3 cannot be read.
    """
    with explained_s3_errors(f"listing s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield SourceObject(bucket, item["Key"], item["ETag"].strip('"'), item["Size"]), item["LastModified"]


def _by_day(listed_by_number: Mapping[int, Sequence[SourceObject]], partition_start_date: date) -> Discovered:
    found = Discovered([], [], frozenset(source.key for listed in listed_by_number.values() for source in listed))
    for number, listed in sorted(listed_by_number.items()):
        if len(listed) > 1:
            keys = " and ".join(source.key for source in listed)
            found.refused.append(
                DataRefusedError(
                    f"{keys} in bucket {listed[0].bucket} all claim to be file number {number}",
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
                    f"{source}: {partition_start_date} + {shorten(number - 1)} days is no date",
                    hint="rename the file, or correct PARTITION_START_DATE",
                )
            )
            continue
        found.files.append(SnapshotFile(source.bucket, source.key, source.etag, source.size, day))
    return found


@patient()
def find_leads(client: S3Client, settings: Settings) -> SourceObject:
    """Look up the current version of the leads parquet.

    Raises:
        SourceError: it is not there, or S3 cannot be read.
    """
    bucket, key = settings.parquet_bucket, settings.s3_parquet_file
    with explained_s3_errors(f"s3://{bucket}/{key}"):
        head = client.head_object(Bucket=bucket, Key=key)
    return SourceObject(bucket, key, head["ETag"].strip('"'), head["ContentLength"])


def fetch(client: S3Client, source: SourceObject) -> bytes:
    """Read the whole object, in the version that was listed.

    Raises:
        SourceError: it cannot be read, or is another version by now.
    """
    with explained_s3_errors(str(source)):
        body = client.get_object(Bucket=source.bucket, Key=source.key, IfMatch=f'"{source.etag}"')["Body"]
        raw = body.read()
    if len(raw) != source.size:
        raise SourceError(f"{source}: {len(raw):,} of its {source.size:,} bytes came", hint="run again", transient=True)
    return raw
