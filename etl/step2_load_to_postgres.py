"""Step 2: S3 → bronze, one file at a time.

A file is loaded when bronze has it under another ETag or size, or not at all; it replaces what its day held.
Grain of bronze.csv_snapshots: one row per record of a CSV file. Grain of bronze.leads_parquet: one row per lead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from etl.utils.errors import DataRefusedError, shorten
from etl.utils.extract import (
    Snapshot,
    SnapshotFile,
    SourceObject,
    discover_snapshots,
    extract_parquet,
    fetch,
    find_leads,
    read_snapshot,
)
from etl.utils.load import copy_in, create_day_table, empty_table, transaction
from etl.utils.run import RunContext, Step, StepResult
from etl.utils.state import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    IngestedFile,
    bronze_day_table,
    current_loads,
    ingested_files,
    record_file,
    record_load,
    rejected_lines_frame,
    replace_rejected,
)
from etl.utils.utils_connection import s3_client

if TYPE_CHECKING:
    from datetime import date

    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileLoad:
    """What became of one source file."""

    source: SourceObject
    rows: int = 0
    rejected: int = 0
    refused: DataRefusedError | None = None


def run(context: RunContext) -> StepResult:
    # --- what is there, and what of it is new -----------------------------------------------------
    client = s3_client(context.settings)
    snapshots = discover_snapshots(client, context.settings)
    leads = find_leads(client, context.settings)
    with transaction(context.settings) as db:
        known = ingested_files(db)
        current = current_loads(db, BRONZE_SNAPSHOTS) | current_loads(db, BRONZE_LEADS)
        _check_calendar(known, snapshots)
    pending = [
        file
        for file in snapshots
        if context.full_refresh or not _stands(file, bronze_day_table(file.day), known, current)
    ]

    # --- load -------------------------------------------------------------------------------------
    with transaction(context.settings) as db:
        for file in pending:
            create_day_table(db, BRONZE_SNAPSHOTS, bronze_day_table(file.day), str(file.day))
    load = partial(load_snapshot, context.settings, context.run_id, context.extraction_date)
    loads = context.for_each(load, pending)
    if context.full_refresh or not _stands(leads, BRONZE_LEADS, known, current):
        loads.append(load_leads(context.settings, context.run_id, context.extraction_date, leads))

    # --- what came of it --------------------------------------------------------------------------
    gone = known.keys() - {source.key for source in (*snapshots, leads)}
    for key in sorted(gone):
        log.warning("s3://%s/%s is gone from S3: its rows are kept", known[key].source.bucket, key)
    rows = sum(load.rows for load in loads)
    rejected = sum(load.rejected for load in loads)
    refused = [load.refused for load in loads if load.refused]
    loaded = [load for load in loads if load.rows]
    new = sum(load.source.key not in known for load in loaded)
    return StepResult(
        rows_in=rows + rejected,
        rows_out=rows,
        rejected=rejected,
        facts={
            "files": {
                "new": new,
                "changed": len(loaded) - new,
                "skipped": len(snapshots) + 1 - len(loaded) - len(refused),
                "refused": len(refused),
            }
        },
        refused=refused,
    )


def load_snapshot(settings: Settings, run_id: str, extraction_date: date, file: SnapshotFile) -> FileLoad:
    """Load one CSV file in place of its day's rows in bronze, in one transaction."""
    try:
        snapshot = read_snapshot(fetch(s3_client(settings), file), file, extraction_date)
        _check_readable(snapshot, file)
    except DataRefusedError as refusal:
        return FileLoad(file, refused=refusal)
    if snapshot.rows.empty:
        log.warning("%s holds no rows: it is skipped, and its day keeps what it has", file)
        return FileLoad(file)
    table = bronze_day_table(file.day)
    with transaction(settings) as db:
        empty_table(db, table)
        rows = copy_in(db, table, snapshot.rows)
        rejected = rejected_lines_frame(snapshot.rejected, file.key, file.day)
        replace_rejected(db, rejected, day=file.day, step=2, run_id=run_id)
        record_load(
            db,
            table=table,
            parent=BRONZE_SNAPSHOTS,
            run_id=run_id,
            row_count=rows,
            rejected_count=len(rejected),
            day=file.day,
        )
        record_file(db, file, table=table, run_id=run_id, bronze_rows=rows, rejected_lines=len(rejected), day=file.day)
    log.info("%s → %s: %d rows, %d rejected", file, BRONZE_SNAPSHOTS, rows, len(rejected))
    return FileLoad(file, rows, len(rejected))


def load_leads(settings: Settings, run_id: str, extraction_date: date, source: SourceObject) -> FileLoad:
    """Load the leads parquet in place of what bronze had, in one transaction."""
    try:
        leads = extract_parquet(s3_client(settings), source, extraction_date)
    except DataRefusedError as refusal:
        return FileLoad(source, refused=refusal)
    with transaction(settings) as db:
        empty_table(db, BRONZE_LEADS)
        rows = copy_in(db, BRONZE_LEADS, leads)
        record_load(db, table=BRONZE_LEADS, parent=BRONZE_LEADS, run_id=run_id, row_count=rows)
        record_file(db, source, table=BRONZE_LEADS, run_id=run_id, bronze_rows=rows, rejected_lines=0, day=None)
    log.info("%s → %s: %d rows", source, BRONZE_LEADS, rows)
    return FileLoad(source, rows)


def _check_readable(snapshot: Snapshot, file: SnapshotFile) -> None:
    """A file of which no line is a row would empty its day.

    Raises:
        DataRefusedError: naming the first line and what is wrong with it.
    """
    if snapshot.rows.empty and snapshot.rejected:
        first = snapshot.rejected[0]
        raise DataRefusedError(
            f"{file}: none of its {len(snapshot.rejected)} lines is a row; line {first.line}: {first.reason}: "
            f"{shorten(first.text)}",
            hint="have the file delivered again",
        )


def _stands(source: SourceObject, table: str, known: Mapping[str, IngestedFile], current: Mapping[str, object]) -> bool:
    """Whether bronze holds this very version of a source file."""
    ingested = known.get(source.key)
    return (
        table in current
        and ingested is not None
        and (ingested.source.etag, ingested.source.size, ingested.source.bucket, ingested.table)
        == (source.etag, source.size, source.bucket, table)
    )


def _check_calendar(known: Mapping[str, IngestedFile], snapshots: list[SnapshotFile]) -> None:
    """Hold the days that files stand for against the days that they were loaded for.

    Raises:
        DataRefusedError: PARTITION_START_DATE has changed, so the tables would mix two calendars.
    """
    for file in snapshots:
        ingested = known.get(file.key)
        if ingested and ingested.partition_date != file.day.date:
            raise DataRefusedError(
                f"{file} was loaded as the day {ingested.partition_date}, and would now be {file.day}",
                hint="set PARTITION_START_DATE back; to really move all days, empty the warehouse first: "
                "sql_scripts/schemas/drop_schemas.sql",
            )


STEP = Step(2, "S3 → bronze", run)

if __name__ == "__main__":
    from etl.utils.terminal import run_from_environment

    raise SystemExit(run_from_environment([STEP]))
