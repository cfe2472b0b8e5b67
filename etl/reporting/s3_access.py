"""Check S3 permissions for test_s3_access.ipynb: identity, listing, reading, and the contents of the bucket."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TypeVar

import pandas as pd

from etl.reporting.answers import Answer
from etl.reporting.words import counted, day
from etl.utils.csv_reader import read_csv_text
from etl.utils.error_hints import translate_s3_errors
from etl.utils.errors import PipelineError
from etl.utils.extract import GZIP, read_leads, read_snapshot
from etl.utils.s3_source import SnapshotFile, discover_snapshots, download, find_leads, list_objects
from etl.utils.utils_connection import Settings, caller_identity, s3_client

Result = TypeVar("Result")


@dataclass(frozen=True)
class S3Access:
    """The results of `check_access`, and the first rows of the files that could be read."""

    checks: Answer
    """Rows: `check ok what_we_know what_to_do`, one per S3 operation tried, in order. `ok` is "yes" or "no"."""
    files: Sequence[SnapshotFile]
    """The CSV files that are not refused, in the order of their days; empty if they could not be listed."""
    first_rows: pd.DataFrame
    """The first rows of the newest CSV file, in the columns of bronze; empty if it could not be read."""
    first_leads: pd.DataFrame
    """The first rows of the leads parquet; empty if it could not be read."""


def check_access(settings: Settings) -> S3Access:
    """Run each S3 operation that the pipeline needs, and return the results; failures are not raised.

    An operation that depends on a failed one is skipped. Listing fails if all CSV files are refused.
    """
    tried: list[tuple[str, bool, str, str]] = []

    def attempt(check: str, work: Callable[[], Result], describe: Callable[[Result], str]) -> Result | None:
        try:
            result = work()
        except PipelineError as error:
            tried.append((check, False, error.message, error.hint or ""))
            return None
        tried.append((check, True, describe(result), ""))
        return result

    today = datetime.now(UTC).date()
    attempt("who we are", lambda: caller_identity(settings), str)
    files = attempt(
        "list the CSV files",
        lambda: _snapshots(settings),
        lambda found: f"{counted(len(found), 'file')} under s3://{settings.csv_bucket}/{settings.s3_sftp_files_prefix}",
    )
    snapshot = files and attempt(
        "read a CSV file",
        lambda: read_snapshot(download(s3_client(settings), files[-1]), files[-1], today),
        lambda read: f"{files[-1].key}: {counted(read.records, 'record')}",
    )
    leads = attempt("find the parquet", lambda: find_leads(s3_client(settings), settings), str)
    backend = leads and attempt(
        "read the parquet",
        lambda: read_leads(download(s3_client(settings), leads), leads, today),
        lambda read: counted(len(read.rows), "lead"),
    )
    return S3Access(
        _summarize(tried),
        files or (),
        snapshot.rows.head() if snapshot else pd.DataFrame(),
        backend.rows.head() if backend else pd.DataFrame(),
    )


def _snapshots(settings: Settings) -> Sequence[SnapshotFile]:
    listing = discover_snapshots(s3_client(settings), settings)
    if not listing.files:
        raise listing.refused[0]
    return listing.files


def _summarize(tried: list[tuple[str, bool, str, str]]) -> Answer:
    table = pd.DataFrame(tried, columns=["check", "ok", "what_we_know", "what_to_do"])
    failed = table[~table["ok"]]
    return Answer(
        "Can we read S3?",
        table.assign(ok=table["ok"].map({True: "yes", False: "no"})),
        "The pipeline can do everything it needs in S3."
        if failed.empty
        else f"Some checks failed. Fix this one first: {failed['check'].iloc[0]}.",
    )


def what_is_there(settings: Settings, files: Sequence[SnapshotFile]) -> Answer:
    """Answer which CSV files S3 contains, without refused ones.

    Rows: `day key size_kb last_modified`, one per CSV file. `size_kb` is in units of 1024 bytes; `last_modified` is
    NULL if the file no longer exists.

    Args:
        files: the files that `check_access` listed.

    Raises:
        SourceError: S3 cannot be read.
    """
    question = "What is there?"
    listed = list_objects(s3_client(settings), settings.csv_bucket, settings.s3_sftp_files_prefix) if files else ()
    modified = {found.key: moment for found, moment in listed}
    rows = pd.DataFrame(
        [(file.day.date, file.key, file.size / 1024, modified.get(file.key)) for file in files],
        columns=["day", "key", "size_kb", "last_modified"],
    )
    if rows.empty:
        return Answer(question, rows, "No CSV file could be listed.")
    first, last = files[0].day.date, files[-1].day.date
    missing = (last - first).days + 1 - len(files)
    gaps = (
        f"{counted(missing, 'day')} between them without a file that can be loaded" if missing else "no day is missing"
    )
    return Answer(
        question,
        rows.astype({"day": "datetime64[us]"}),
        f"{counted(len(files), 'CSV file')}, together {rows['size_kb'].sum() / 1024:,.1f} MB, for {day(first)} to "
        f"{day(last)}: {gaps}.",
    )


HEAD = 64 * 1024
"""Number of bytes to read from the beginning of a file: enough for any header."""


def headers(settings: Settings) -> dict[date, list[str]]:
    """Return day → column names of its CSV file, in the file's order. Only the beginning of each file is read.

    Refused files, empty files and damaged gzip files are left out.

    Raises:
        SettingsError: see `s3_client`.
        SourceError: S3 cannot be read, or contains no snapshot.
    """
    client, found = s3_client(settings), {}
    for file in discover_snapshots(client, settings).files:
        if file.size:
            with translate_s3_errors(str(file)):
                body = client.get_object(Bucket=file.bucket, Key=file.key, Range=f"bytes=0-{HEAD - 1}")["Body"].read()
            with suppress(zlib.error):
                if body.startswith(GZIP):
                    body = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body)
                found[file.day.date] = read_csv_text(body).table.column_names
    return found
