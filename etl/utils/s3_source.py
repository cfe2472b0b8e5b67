"""List and download the source objects in S3."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from etl.utils.day import Day, day_ranges
from etl.utils.error_hints import translate_s3_errors
from etl.utils.errors import DataRefusedError, SourceError, listed, shorten
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceObject:
    """An S3 object in the version that was listed. The same key, ETag and size (in bytes) mean the same content."""

    bucket: str
    key: str
    etag: str
    size: int

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def version(self) -> tuple[str, str, str, int]:
        """Bucket, key, ETag and size: equal for the same content of the same object."""
        return self.bucket, self.key, self.etag, self.size


@dataclass(frozen=True)
class SnapshotFile(SourceObject):
    """A daily CSV snapshot of the CRM."""

    day: Day


class Listing(NamedTuple):
    """The CSV snapshots in S3."""

    files: list[SnapshotFile]
    """Files that are not refused, in the order of their days."""
    refused: list[DataRefusedError]
    """Refusals of files with the same number, a future day or an invalid day."""
    days: list[Day]
    """Days up to today that have a file, refused or not, in order."""
    keys: frozenset[str]
    """The keys of all snapshots, including refused ones."""
    missing: str | None
    """Finding about missing days (see `_describe_missing`); None if there are none."""


@retry_transient()
def discover_snapshots(client: S3Client, settings: Settings) -> Listing:
    """List the CSV snapshots under S3_SFTP_FILES_PREFIX: prefix + number + `.csv` or `.csv.gz`.

    Files with the same number (`data_1.csv` and `data_01.csv`), and files of future or invalid days, are refused. Other
    keys under the prefix are ignored with a warning.

    Raises:
        SourceError: S3 cannot be read, or contains no snapshot.
    """
    bucket, prefix = settings.csv_bucket, settings.s3_sftp_files_prefix
    numbered = re.compile(re.escape(prefix) + r"0*([1-9][0-9]*)\.csv(?:\.gz)?")
    listed_by_number: dict[int, list[SourceObject]] = {}
    ignored = []
    for source, _ in list_objects(client, bucket, prefix):
        if match := numbered.fullmatch(source.key):
            listed_by_number.setdefault(int(match[1]), []).append(source)
        else:
            ignored.append(source.key)
    if ignored:
        pattern = f"{prefix}<number>.csv or .csv.gz, with a number of at least 1"
        log.warning(
            "bucket %s: %d keys ignored that do not match %s: %s", bucket, len(ignored), pattern, listed(ignored)
        )
    if not listed_by_number:
        found = f"; keys that were ignored: {listed(ignored)}" if ignored else ""
        raise SourceError(
            f"no CSV file matches s3://{bucket}/{prefix}<number>.csv or .csv.gz{found}",
            hint="check S3_SFTP_FILES_PREFIX and S3_BUCKET_NAME (or S3_SFTP_BUCKET), and that the files were uploaded",
        )
    files, refused, days = _by_day(listed_by_number, settings.partition_start_date)
    keys = frozenset(source.key for sources in listed_by_number.values() for source in sources)
    return Listing(files, refused, days, keys, _describe_missing(days, ignored, prefix))


def list_objects(client: S3Client, bucket: str, prefix: str) -> Iterator[tuple[SourceObject, datetime]]:
    """Yield all objects under a prefix, each with its modification time.

    Raises:
        SourceError: S3 cannot be read.
    """
    with translate_s3_errors(f"listing s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield SourceObject(bucket, item["Key"], item["ETag"].strip('"'), item["Size"]), item["LastModified"]


def _by_day(
    listed_by_number: Mapping[int, Sequence[SourceObject]], partition_start_date: date
) -> tuple[list[SnapshotFile], list[DataRefusedError], list[Day]]:
    """Return the accepted files, the refusals of others, and the days up to today that have a file, all in order."""
    files, refused, days = [], [], []
    today = datetime.now(UTC).date()
    for number, sources in sorted(listed_by_number.items()):
        source = sources[0]
        try:
            day = Day.of_file(number, partition_start_date)
            problem = f"its snapshot day {day} is in the future (UTC)" if day.date > today else ""
        except OverflowError:
            problem = f"{partition_start_date} + {shorten(number - 1)} days is not a valid date"
        if problem:
            refused.append(
                DataRefusedError(
                    f"{source}: {problem}",
                    hint=f"file number 1 is the snapshot of {partition_start_date}, number 2 that of the next day: "
                    f"rename the file, or correct PARTITION_START_DATE. Today is {today} by this machine's clock",
                )
            )
            continue
        days.append(day)
        if len(sources) > 1:
            keys = " and ".join(source.key for source in sources)
            problem = f"{keys} in bucket {source.bucket} have the same file number, {number}"
            refused.append(DataRefusedError(problem, hint="delete or rename all but one of them"))
            continue
        files.append(SnapshotFile(**vars(source), day=day))
    return files, refused, days


def _describe_missing(days: Sequence[Day], ignored: Iterable[str], prefix: str) -> str | None:
    """Return a finding about missing days, with the ignored keys that resemble their files; None if there are none.

    A day without a file is missing if it is between the first and the last of `days`, or if it is later, but not after
    today, and an ignored key has its number.
    """
    numbered = re.compile(re.escape(prefix) + r"0*([0-9]{1,9})(?![0-9])")
    similar = {key: int(match[1]) for key in ignored if (match := numbered.match(key))}
    if not days:
        return None
    first, last = days[0], days[-1]
    number_today = last.number + (datetime.now(UTC).date() - last.date).days
    numbers = {number for number in similar.values() if last.number < number <= number_today}
    numbers |= {*range(first.number, last.number)} - {day.number for day in days}
    missing = [Day(number, first.date + timedelta(number - first.number)) for number in sorted(numbers)]
    if not missing:
        return None
    finding = f"no file for {missing[0]} (file number {missing[0].number})"
    if missing[1:]:
        ranges = day_ranges(day.date for day in missing)
        finding = f"no files for {len(missing):,} days: {ranges} (the first is file number {missing[0].number})"
    shown = [key for key, number in similar.items() if number in numbers]
    return f"{finding}; similar keys that were ignored: {listed(shown)}" if shown else finding


def check_completeness(days: Sequence[Day], missing: str | None, settings: Settings) -> list[str]:
    """Return findings about missing days and, with MAX_DAYS_LATE, late snapshots (specification §7).

    Args:
        days: the days that have a file, in order.
        missing: the finding of `discover_snapshots` about missing days; a day can be both missing and late.
    """
    findings = [missing] if missing else []
    if settings.max_days_late is not None:
        expected = datetime.now(UTC).date() - timedelta(settings.max_days_late)
        latest = days[-1].date if days else settings.partition_start_date - timedelta(1)
        if late := [latest + timedelta(number) for number in range(1, (expected - latest).days + 1)]:
            known = f"the latest file is for {latest}" if days else "there is no file for a day up to today"
            others = f"; late days: {day_ranges(late)}" if late[1:] else ""
            findings.append(f"{known}; a file for {expected} was expected by now (MAX_DAYS_LATE){others}")
    return findings


def find_copies(loaded: Collection[SnapshotFile], snapshots: Iterable[SnapshotFile]) -> list[str]:
    """Find loaded files with the same content as an earlier snapshot. Returns one sentence per such file.

    Args:
        loaded: the files that this run has loaded.
        snapshots: all files, in the order of their days.
    """
    latest: dict[tuple[str, int], SnapshotFile] = {}
    copies = []
    for file in snapshots:
        before = latest.get((file.etag, file.size))
        if before and file in loaded:
            copies.append(
                f"{file} has the same content as {before.key}: {before.day} was probably delivered again as {file.day}"
            )
        latest[file.etag, file.size] = file
    return copies


def refused_days(findings: Iterable[str], settings: Settings) -> list[DataRefusedError]:
    """Return findings about missing, late and empty days as refusals if MISSING_DAYS=refuse, else an empty list."""
    hint = "deliver the files of these days, or set MISSING_DAYS=warn to continue without them"
    return [DataRefusedError(finding, hint=hint) for finding in findings if settings.missing_days == "refuse"]


@retry_transient()
def find_leads(client: S3Client, settings: Settings) -> SourceObject:
    """Return the current version of the leads parquet.

    If S3_PARQUET_FILE is a folder, as Spark and others write it, return the only part in it.

    Raises:
        SourceError: the object does not exist, the folder has several parts, or S3 cannot be read.
    """
    from botocore.exceptions import ClientError

    bucket, key = settings.parquet_bucket, settings.s3_parquet_file
    with translate_s3_errors(f"s3://{bucket}/{key}"):
        try:
            head = client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404" or not (part := _only_part(client, bucket, key)):
                raise
            return part
        if key.endswith("/") and (part := _only_part(client, bucket, key)):  # the object only marks the folder
            return part
    return SourceObject(bucket, key, head["ETag"].strip('"'), head["ContentLength"])


_PART = re.compile(r"(?:[^_./][^/]*/)*[^_./][^/]*")
"""Key of a part within a folder. As in Spark, objects whose names begin with `_` or `.` are not data: parts of a job
that did not complete are below `_temporary/`."""


def _only_part(client: S3Client, bucket: str, folder: str) -> SourceObject | None:
    prefix = f"{folder.rstrip('/')}/"
    objects = list_objects(client, bucket, prefix)
    parts = [found for found, _ in objects if _PART.fullmatch(found.key.removeprefix(prefix))]
    parts = [part for part in parts if part.key.endswith(".parquet")] or parts
    if len(parts) > 1:
        raise SourceError(
            f"s3://{bucket}/{folder} is a folder with {len(parts)} parts, as Spark writes it, not a parquet file",
            hint="write a single file (in Spark: coalesce(1)), or set S3_PARQUET_FILE to the key of a file",
        )
    return parts[0] if parts else None


def download(client: S3Client, source: SourceObject) -> bytes:
    """Download an object, in the version that was listed.

    Raises:
        SourceError: the object cannot be read, was replaced or deleted after it was listed, or arrived incomplete.
    """
    with translate_s3_errors(str(source)):
        body = client.get_object(Bucket=source.bucket, Key=source.key, IfMatch=f'"{source.etag}"')["Body"]
        raw = body.read()
    if len(raw) != source.size:
        raise SourceError(f"{source}: received {len(raw):,} of {source.size:,} bytes", hint="rerun", transient=True)
    return raw
