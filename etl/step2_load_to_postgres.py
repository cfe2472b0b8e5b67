"""Step 2: load files from S3 into bronze.

A file is loaded if bronze does not contain it with the same ETag and size, if its table was dropped or modified outside
the pipeline, or if the number of its rejected rows has changed; in a full refresh, every file is loaded. The leads file
replaces bronze.leads_parquet in one transaction. CSV files are copied to staging tables in parallel, then validated,
each against the latest snapshot before it (files that bronze already contains in this version are not validated again);
the accepted files replace their days in one transaction.
Grain of bronze.csv_snapshots: one row per accepted record of a CSV file. Grain of bronze.leads_parquet: one row per
accepted row of the parquet file, duplicates included.

Modules that import pandas are imported only if there is something to load, which makes an unchanged run faster.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from psycopg2 import sql

from etl.engine.context import RunContext, StepResult
from etl.engine.prefetch import prefetch
from etl.engine.shutdown import raise_before_requests
from etl.utils.errors import DataRefusedError
from etl.utils.retry import retry_transient
from etl.utils.s3_source import (
    SnapshotFile,
    SourceObject,
    check_completeness,
    discover_snapshots,
    download,
    find_copies,
    find_leads,
    refused_days,
)
from etl.utils.utils_checks_db import FILES_ARE_ACCOUNTED_FOR, LEADS_ARE_ACCOUNTED_FOR, run_checks
from etl.utils.utils_connection import Settings, s3_client
from etl.warehouse import rejected_rows
from etl.warehouse.load_ledger import fenced_transaction, record_file, record_load, require_tables
from etl.warehouse.partitions import acquire_exclusive_lock, create_staging_partition, empty_table, swap_partition
from etl.warehouse.pending import BronzeState, count_by_reason
from etl.warehouse.run_history import clear_staging
from etl.warehouse.sql_scripts import quote_identifier
from etl.warehouse.staged_files import StagedFile, validate_files
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    REJECTED_ROWS,
    bronze_partition,
    staging_bronze_partition,
)
from etl.warehouse.transactions import transaction

if TYPE_CHECKING:
    import pandas as pd

    from etl.utils.csv_reader import RejectedLine

log = logging.getLogger(__name__)

CHUNK_SIZE = 4 << 20
"""Chunk size in bytes. Peak memory per file is the size of the file plus a multiple of the chunk size."""


class LoadedFile(NamedTuple):
    """Result of loading a file: its key, number of rows, number of rejected rows by reason, and refusal, if any."""

    key: str
    rows: int
    rejected: Counter[str]
    refused: DataRefusedError | None = None


def run(context: RunContext) -> StepResult:
    # --- load inputs: which files are new or changed ----------------------------------------------
    settings, run_id = context.settings, context.run_id
    client = raise_before_requests(s3_client(settings))
    listing, leads = discover_snapshots(client, settings), find_leads(client, settings)
    bronze = read_bronze_state(settings)
    bronze.check_calendar(listing.files)
    why_load = {file.key: bronze.why_load(file, full_refresh=context.full_refresh) for file in (leads, *listing.files)}

    # --- load the leads first, so that the days can reuse their memory ----------------------------
    load = partial(load_leads, settings, run_id, context.extraction_date)
    loaded_leads = context.map(load, [leads] if why_load[leads.key] else [], rows=lambda file: file.rows)

    # --- stage, validate and publish the days -----------------------------------------------------
    stage = partial(stage_snapshot, settings, run_id, context.extraction_date)
    staged = context.map(stage, [file for file in listing.files if why_load[file.key]], rows=lambda file: file.rows)
    validated = validate_files(staged, bronze, settings)
    accepted = [file for file in validated if not (file.refused or file.is_empty)]
    if staged:
        publish_bronze(settings, run_id, accepted)
    refused = [file.refused for file in validated if file.refused]
    refused += [file.refused for file in loaded_leads if file.refused]

    # --- report -----------------------------------------------------------------------------------
    without_leads, kept = bronze.describe_empty(file.file for file in validated if file.is_empty)
    empty_days = {file.day for file in without_leads}
    days = [day for day in listing.days if day not in empty_days]
    incomplete = [*check_completeness(days, listing.missing, settings), *without_leads.values()]
    suspect = kept + find_copies([file.file for file in accepted], listing.files)
    loaded = [file for file in loaded_leads if not file.refused]
    replaced = {bronze_partition(file.file.day) for file in accepted} | {BRONZE_LEADS for _ in loaded}
    for finding in (*bronze.describe_removed(listing.keys | {leads.key}, replaced), *incomplete, *suspect):
        log.warning("%s", finding)
    loaded += [LoadedFile(file.file.key, file.rows, file.rejected_lines) for file in accepted]
    rows = sum(file.rows for file in loaded)
    rejected = sum((file.rejected for file in loaded), Counter[str]())
    return StepResult(
        rows_in=rows + rejected.total(),
        rows_out=rows,
        rejected=rejected,
        metrics={
            "files": {
                **count_by_reason(why_load[file.key] for file in loaded),
                "skipped": len(listing.files) + 1 - len(loaded) - len(refused),
                "refused": len(refused) + len(listing.refused),
            }
        },
        refused=[*listing.refused, *refused, *refused_days(incomplete, settings)],
        warnings=incomplete + suspect,
    )


@retry_transient()
def read_bronze_state(settings: Settings) -> BronzeState:
    with transaction(settings) as db:
        require_tables(db, BRONZE_SNAPSHOTS, BRONZE_LEADS, REJECTED_ROWS, created_by_step=1)
        return BronzeState.read(db)


@retry_transient()
def stage_snapshot(settings: Settings, run_id: str, extraction_date: date, file: SnapshotFile) -> StagedFile:
    """Copy the rows and rejected lines of one CSV file to staging tables, in one transaction.

    Returns the row counts. If `read_snapshot_chunks` refuses the file, nothing is staged, and the result has the reason
    in `refused`.

    Raises:
        SourceError: the file cannot be downloaded.
        LockHeldError: see `fenced_transaction`.
    """
    import pandas as pd

    from etl.utils.extract import read_snapshot_chunks
    from etl.warehouse.bulk_copy import copy_from_frame

    raw = download(s3_client(settings), file)
    staged, table = StagedFile(file), staging_bronze_partition(file.day)
    try:
        with fenced_transaction(settings, run_id, filling=table) as db:
            create_staging_partition(db, BRONZE_SNAPSHOTS, table, str(file.day))
            rejected: list[RejectedLine] = []
            lead_numbers: list[pd.Series] = []
            for chunk in prefetch(read_snapshot_chunks(raw, file, extraction_date, CHUNK_SIZE)):
                copy_from_frame(db, table, chunk.rows, frozen=True)
                rejected += chunk.rejected
                numbers = pd.to_numeric(chunk.rows["LEADNUMBER"], errors="coerce")
                lead_numbers.append(pd.Series(numbers.to_numpy("float64", na_value=float("nan"))))
                staged = staged.with_chunk(chunk)
            times = pd.concat(lead_numbers).value_counts()
            counts = {"distinct": len(times), "repeated": int((times > 1).sum())}
            staged = replace(staged, counts=staged.counts._replace(**counts))
            # for --explain; tiny, because rows are in the order of the file
            index = "create index on {} using brin (_source_row) with (pages_per_range = 16)"
            db.execute(sql.SQL(index).format(quote_identifier(table)))
            rejected_rows.stage_rejected(db, rejected, file, run_id)
    except DataRefusedError as refusal:
        return StagedFile(file, refused=refusal)
    log.info("%s: %d rows, %d rejected", file, staged.rows, staged.rejected_lines.total())
    return staged


@retry_transient()
def publish_bronze(settings: Settings, run_id: str, accepted: Sequence[StagedFile]) -> None:
    """Replace the days of the accepted files in bronze, with their rejected lines, all in one transaction.

    Then drop the staging tables that no later step needs, such as those of refused files.

    Raises:
        PostgresError: see `acquire_exclusive_lock` and `swap_partition`.
        CheckFailedError: rows and rejected lines of a file do not add up to its records.
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=BRONZE_SNAPSHOTS) as db:
        acquire_exclusive_lock(db, BRONZE_SNAPSHOTS)
        for staged in accepted:
            file = staged.file
            table = bronze_partition(file.day)
            swap_partition(db, BRONZE_SNAPSHOTS, staging_bronze_partition(file.day), table, str(file.day))
            rejected_rows.publish_rejected(db, file.day)
            record_load(
                db,
                run_id,
                table,
                staged.rows,
                parent=BRONZE_SNAPSHOTS,
                rejected_count=staged.rejected_lines.total(),
                separator_count=staged.separators,
                day=file.day,
                metrics=staged.counts._asdict() | {"etag": file.etag},
            )
            record_file(db, table, file, records=staged.records)
        run_checks(db, [FILES_ARE_ACCOUNTED_FOR])
        clear_staging(db)
    for staged in accepted:
        rejected_rows.warn_of_rejected(str(staged.file), staged.rejected_lines)


@retry_transient()
def load_leads(settings: Settings, run_id: str, extraction_date: date, source: SourceObject) -> LoadedFile:
    """Replace the leads in bronze, and their rejected rows, with those of the parquet file, in one transaction.

    If `read_leads` refuses the file, nothing is changed, and the result has the reason in `refused`.

    Raises:
        SourceError: the file cannot be downloaded.
        PostgresError: see `empty_table`.
        CheckFailedError: rows and rejected rows of the file do not add up to its records.
        LockHeldError: see `fenced_transaction`.
    """
    from etl.utils.extract import read_leads
    from etl.warehouse.bulk_copy import copy_from_frame

    try:
        leads = read_leads(download(s3_client(settings), source), source, extraction_date)
    except DataRefusedError as refusal:
        return LoadedFile(source.key, 0, Counter(), refusal)
    rejected = rejected_rows.rejected_lines_frame(leads.rejected, source.key, None)
    with fenced_transaction(settings, run_id, filling=BRONZE_LEADS) as db:
        empty_table(db, BRONZE_LEADS)
        rows = copy_from_frame(db, BRONZE_LEADS, leads.rows, frozen=True)
        rejected_rows.delete_rejected(db, None, step=2)
        rejected_rows.add_rejected(db, rejected, step=2, run_id=run_id)
        record_load(db, run_id, BRONZE_LEADS, rows, rejected_count=len(rejected))
        record_file(db, BRONZE_LEADS, source, records=leads.records)
        run_checks(db, [LEADS_ARE_ACCOUNTED_FOR])
    log.info("%s: %d rows, %d rejected", source, rows, len(rejected))
    reasons = Counter(rejected["reason"])
    rejected_rows.warn_of_rejected(str(source), reasons)
    return LoadedFile(source.key, rows, reasons)


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(2))
