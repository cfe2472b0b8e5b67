"""Step 2: S3 → bronze, one file at a time.

A file is loaded when bronze has it under another ETag or size, or not at all. Files are staged in parallel; then they
are judged, for which the day before must be known; then those that are accepted replace their days in one transaction.
Grain of bronze.csv_snapshots: one row per record of a CSV file. Grain of bronze.leads_parquet: one row per lead.

What knows frames is imported where there is something to load: a run that finds nothing new does without pandas.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from etl.utils.ahead import one_ahead
from etl.utils.day_tables import create_staged_day, empty_table, lock_for_publishing, publish_day
from etl.utils.errors import DataRefusedError, shorten
from etl.utils.patience import patient
from etl.utils.quarantine import publish_rejected, rejected_lines_frame, replace_rejected, stage_rejected
from etl.utils.run import RunContext, StepResult
from etl.utils.source import SnapshotFile, SourceObject, discover_snapshots, fetch, find_leads
from etl.utils.state import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    REJECTED_ROWS,
    IngestedFile,
    TableLoad,
    bronze_day_table,
    clear_staging,
    current_loads,
    hold_the_run,
    ingested_files,
    record_file,
    record_load,
    require_tables,
    staged_bronze_day_table,
)
from etl.utils.transactions import transaction
from etl.utils.utils_checks_db import FILES_ARE_ACCOUNTED_FOR, LEADS_ARE_ACCOUNTED_FOR, run_checks
from etl.utils.utils_connection import s3_client

if TYPE_CHECKING:
    from datetime import date

    from etl.utils.day import Day
    from etl.utils.extract import RejectedLine, Snapshot
    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)

PIECE_SIZE = 4 << 20
"""Bytes of a file that are parsed, rendered and sent together: what a file takes of memory beside its own size."""


@dataclass(frozen=True)
class Books:
    """What bronze holds."""

    files: Mapping[str, IngestedFile]
    tables: Mapping[str, TableLoad]

    def has(self, source: SourceObject, table: str) -> bool:
        """Whether this very version of a source file stands in bronze."""
        known = self.files.get(source.key)
        return table in self.tables and known is not None and (known.source, known.table) == (source.version, table)


@dataclass(frozen=True)
class StagedFile:
    """A CSV file in staging, not yet judged."""

    file: SnapshotFile
    records: int = 0
    rows: int = 0
    rejected_lines: int = 0
    untypable_rows: int = 0
    first_fault: str = ""
    refused: DataRefusedError | None = None

    def with_piece(self, piece: Snapshot) -> StagedFile:
        from etl.utils.transform import count_untypable

        untypable = count_untypable(piece.rows)
        is_faulty = bool(piece.rejected or untypable)
        return replace(
            self,
            records=self.records + piece.records,
            rows=self.rows + len(piece.rows),
            rejected_lines=self.rejected_lines + len(piece.rejected),
            untypable_rows=self.untypable_rows + untypable,
            first_fault=self.first_fault or (_first_fault(piece) if is_faulty else ""),
        )


def run(context: RunContext) -> StepResult:
    # --- what is there, and what of it is new -----------------------------------------------------
    settings, run_id = context.settings, context.run_id
    client = s3_client(settings)
    snapshots, unclear, keys = discover_snapshots(client, settings)
    leads = find_leads(client, settings)
    books = read_books(settings)
    _check_calendar(books.files, snapshots)
    pending = [file for file in snapshots if context.full_refresh or not books.has(file, bronze_day_table(file.day))]

    # --- the leads first, because the days can use again what memory they take at once ---------------
    leads_rows, refused_leads = 0, []
    if context.full_refresh or not books.has(leads, BRONZE_LEADS):
        try:
            load = partial(load_leads, settings, run_id, context.extraction_date)
            (leads_rows,) = context.for_each(load, [leads], rows=int)
        except DataRefusedError as refusal:
            refused_leads.append(refusal)

    # --- the days: stage, judge, publish --------------------------------------------------------------
    stage = partial(stage_snapshot, settings, run_id, context.extraction_date)
    staged = context.for_each(stage, pending, rows=lambda file: file.rows)
    judged = judge(staged, books.tables.values(), settings)
    accepted = [file for file in judged if file.records and not file.refused]
    if staged:
        publish(settings, run_id, accepted)
    refused = [file.refused for file in judged if file.refused] + refused_leads

    # --- what came of it --------------------------------------------------------------------------
    for key in sorted(books.files.keys() - keys - {leads.key}):
        log.warning("s3://%s/%s is gone from S3: its rows are kept", books.files[key].source.bucket, key)
    loaded = [file.file.key for file in accepted] + [leads.key] * bool(leads_rows)
    new = sum(key not in books.files for key in loaded)
    rows = sum(file.rows for file in accepted) + leads_rows
    rejected = sum(file.rejected_lines for file in accepted)
    return StepResult(
        rows_in=rows + rejected,
        rows_out=rows,
        rejected=rejected,
        facts={
            "files": {
                "new": new,
                "changed": len(loaded) - new,
                "skipped": len(snapshots) + 1 - len(loaded) - len(refused),
                "refused": len(refused) + len(unclear),
            }
        },
        refused=[*unclear, *refused],
    )


@patient()
def read_books(settings: Settings) -> Books:
    with transaction(settings) as db:
        require_tables(db, BRONZE_SNAPSHOTS, BRONZE_LEADS, REJECTED_ROWS, made_by=1)
        days, leads = (current_loads(db, table, rejects_of_step=2) for table in (BRONZE_SNAPSHOTS, BRONZE_LEADS))
        return Books(ingested_files(db), days | leads)


@patient()
def stage_snapshot(settings: Settings, run_id: str, extraction_date: date, file: SnapshotFile) -> StagedFile:
    """Load one CSV file into a staging table of its own, in one transaction."""
    from etl.utils.extract import read_snapshot_pieces
    from etl.utils.load import copy_in

    raw = fetch(s3_client(settings), file)
    staged = StagedFile(file)
    table = staged_bronze_day_table(file.day)
    try:
        with transaction(settings) as db:
            hold_the_run(db, run_id, filling=table)
            create_staged_day(db, BRONZE_SNAPSHOTS, table, str(file.day))
            rejected: list[RejectedLine] = []
            for piece in one_ahead(read_snapshot_pieces(raw, file, extraction_date, PIECE_SIZE)):
                copy_in(db, table, piece.rows, frozen=True)
                rejected += piece.rejected
                staged = staged.with_piece(piece)
            stage_rejected(db, rejected, file)
    except DataRefusedError as refusal:
        return StagedFile(file, refused=refusal)
    if staged.records:
        log.info("%s: %d rows, %d rejected", file, staged.rows, staged.rejected_lines)
    else:
        log.warning("%s holds no rows: it is skipped, and its day keeps what it has", file)
    return staged


def _first_fault(piece: Snapshot) -> str:
    from etl.utils.transform import clean_csv

    if piece.rejected:
        line = piece.rejected[0]
        return f"line {line.line}: {line.reason}: {shorten(line.text)}"
    row = clean_csv(piece.rows).rejected.iloc[0]
    return f"line {row['_source_row']}: {row['reason']}: {shorten(row['raw_row'], 300)}"


def judge(staged: Iterable[StagedFile], standing: Iterable[TableLoad], settings: Settings) -> list[StagedFile]:
    """Refuse files that would do harm: too many rejects, or far fewer rows than the day before (SPEC §7)."""
    rows_by_day: dict[Day, int] = {load.of_day: load.row_count for load in standing if load.of_day}
    judged = []
    for file in sorted(staged, key=lambda staged: staged.file.day):
        refused = file.refused or _too_many_rejects(file, settings) or _too_few_rows(file, rows_by_day, settings)
        if file.records and not refused:
            rows_by_day[file.file.day] = file.rows
        judged.append(replace(file, refused=refused))
    return judged


def _too_many_rejects(file: StagedFile, settings: Settings) -> DataRefusedError | None:
    rejects = file.rejected_lines + file.untypable_rows
    if rejects <= settings.max_reject_ratio * file.records:
        return None
    return DataRefusedError(
        f"{file.file}: {rejects:,} of its {file.records:,} records cannot be loaded, more than "
        f"{settings.max_reject_ratio:.0%}. The first: {file.first_fault}",
        hint="have the file delivered again, or raise MAX_REJECT_RATIO for this run to quarantine them",
    )


def _too_few_rows(file: StagedFile, rows_by_day: Mapping[Day, int], settings: Settings) -> DataRefusedError | None:
    earlier = [day for day in rows_by_day if day < file.file.day]
    if not file.records or not earlier:
        return None
    before = max(earlier)
    if file.rows >= (1 - settings.max_row_drop) * rows_by_day[before]:
        return None
    return DataRefusedError(
        f"{file.file}: {file.rows:,} rows, down from {rows_by_day[before]:,} on {before}: more than "
        f"{settings.max_row_drop:.0%} less",
        hint="have the whole file delivered; if it is right, raise MAX_ROW_DROP for this run",
    )


@patient()
def publish(settings: Settings, run_id: str, accepted: Iterable[StagedFile]) -> None:
    """Put the accepted files in place of their days in bronze: all in one transaction."""
    with transaction(settings) as db:
        lock_for_publishing(db, BRONZE_SNAPSHOTS)
        for staged in accepted:
            file = staged.file
            table = bronze_day_table(file.day)
            publish_day(db, BRONZE_SNAPSHOTS, staged_bronze_day_table(file.day), table, str(file.day))
            publish_rejected(db, file.day, run_id)
            record_load(
                db,
                table=table,
                parent=BRONZE_SNAPSHOTS,
                run_id=run_id,
                row_count=staged.rows,
                rejected_count=staged.rejected_lines,
                day=file.day,
            )
            record_file(
                db,
                file,
                table=table,
                run_id=run_id,
                records=staged.records,
                bronze_rows=staged.rows,
                rejected_lines=staged.rejected_lines,
                day=file.day,
            )
        run_checks(db, [FILES_ARE_ACCOUNTED_FOR])
        clear_staging(db)


@patient()
def load_leads(settings: Settings, run_id: str, extraction_date: date, source: SourceObject) -> int:
    """Load the leads parquet in place of what bronze had, in one transaction.

    Raises:
        DataRefusedError: see `read_leads`.
    """
    from etl.utils.extract import read_leads
    from etl.utils.load import copy_in

    leads = read_leads(fetch(s3_client(settings), source), source, extraction_date)
    rejected = rejected_lines_frame(leads.rejected, source.key, None)
    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=BRONZE_LEADS)
        empty_table(db, BRONZE_LEADS)
        rows = copy_in(db, BRONZE_LEADS, leads.rows, frozen=True)
        replace_rejected(db, rejected, day=None, step=2, run_id=run_id)
        record_load(
            db,
            table=BRONZE_LEADS,
            parent=BRONZE_LEADS,
            run_id=run_id,
            row_count=rows,
            rejected_count=len(rejected),
        )
        record_file(
            db,
            source,
            table=BRONZE_LEADS,
            run_id=run_id,
            records=leads.records,
            bronze_rows=rows,
            rejected_lines=len(rejected),
            day=None,
        )
        run_checks(db, [LEADS_ARE_ACCOUNTED_FOR])
    log.info("%s: %d rows, %d rejected", source, rows, len(rejected))
    return rows


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


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(2))
