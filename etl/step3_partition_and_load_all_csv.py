"""Step 3: bronze → cleaned rows, one day at a time; and the cleaned leads.

A day is cleaned when silver was built from another load of bronze, or by another version of the cleaning code. Its rows
wait in schema staging, one table a day, for step 4 to make them the day's partition of silver. These tables get
silver's types before they are filled (see sql_scripts/silver/apply_silver_types.sql): typed afterwards, all rows would
be written twice.

What knows frames is imported where there is something to clean: a run that finds nothing new does without pandas.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.ahead import one_ahead
from etl.utils.day_tables import create_staged_day, empty_table
from etl.utils.errors import DataRefusedError
from etl.utils.patience import patient
from etl.utils.quarantine import add_rejected, forget_rejected, replace_rejected
from etl.utils.run import RunContext, StepResult
from etl.utils.state import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    CLEANED_SNAPSHOTS,
    REJECTED_ROWS,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    TableLoad,
    cleaned_day_table,
    current_loads,
    hold_the_run,
    record_load,
    require_tables,
    silver_day_table,
    source_key,
)
from etl.utils.transactions import table_name, transaction
from etl.utils.utils_checks_db import DAYS_ARE_RECONCILED, LEADS_ARE_DISTINCT, run_checks
from etl.warehouse.silver_types import apply_silver_types

if TYPE_CHECKING:
    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)

CLEANING_CODE = ("transform.py", "columns.py", "frames.py")
"""The modules of etl/utils/ that decide what a cleaned row looks like."""


@dataclass(frozen=True)
class DayClean:
    """What became of the bronze rows of one table."""

    rows: int = 0
    rejected: int = 0
    separators: int = 0

    def __add__(self, other: DayClean) -> DayClean:
        return DayClean(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def run(context: RunContext) -> StepResult:
    # --- which days silver has not, or has from another load --------------------------------------
    bronze, done = read_books(context.settings)
    leads = bronze.pop(BRONZE_LEADS, None)
    pending = [load for load in bronze.values() if context.full_refresh or not _is_done(load, done)]

    # --- clean: the leads first, because the days can use again what memory they take at once ------
    pending_leads = [leads] if leads and (context.full_refresh or not _is_done(leads, done)) else []
    _log_outdated([*pending, *pending_leads], done)
    cleaned: list[DayClean] = []
    refused: list[DataRefusedError] = []
    rows_in = sum(load.row_count for load in pending)
    try:
        clean_all = partial(clean_leads, context.settings, context.run_id)
        cleaned = context.for_each(clean_all, pending_leads, rows=lambda leads: leads.rows)
        rows_in += sum(load.row_count for load in pending_leads)
    except DataRefusedError as refusal:
        refused.append(refusal)
    clean = partial(clean_day, context.settings, context.run_id)
    cleaned += context.for_each(clean, pending, rows=lambda day: day.rows)

    # --- what came of it --------------------------------------------------------------------------
    return StepResult(
        rows_in=rows_in,
        rows_out=sum(day.rows for day in cleaned),
        rejected=sum(day.rejected for day in cleaned),
        facts={"days": {"cleaned": len(pending)}, "rows": {"separators": sum(day.separators for day in cleaned)}},
        refused=refused,
    )


@patient()
def read_books(settings: Settings) -> tuple[dict[str, TableLoad], dict[str, TableLoad]]:
    """What bronze holds, and what has been made from it."""
    with transaction(settings) as db:
        require_tables(db, BRONZE_SNAPSHOTS, SILVER_SNAPSHOTS, REJECTED_ROWS, made_by=1)
        return (
            current_loads(db, BRONZE_SNAPSHOTS) | current_loads(db, BRONZE_LEADS),
            current_loads(db, SILVER_SNAPSHOTS, rejects_of_step=3)
            | current_loads(db, CLEANED_SNAPSHOTS, rejects_of_step=3)
            | current_loads(db, SILVER_LEADS, rejects_of_step=3),
        )


@cache
def cleaning_code_version() -> str:
    """Return a digest of the source text of `CLEANING_CODE`: read as files, so that nothing imports pandas for it."""
    folder = Path(__file__).parent / "utils"
    text = "".join((folder / module).read_text(encoding="utf-8") for module in CLEANING_CODE)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(bronze: TableLoad, done: Mapping[str, TableLoad]) -> bool:
    """Whether the latest rows that were cleaned from a table of bronze are those that this code would make of it."""
    cleaned = _latest_cleaned(bronze, done)
    return (
        cleaned is not None
        and cleaned.built_from == (bronze.load_id,)
        and cleaned.code_version == cleaning_code_version()
    )


def _latest_cleaned(bronze: TableLoad, done: Mapping[str, TableLoad]) -> TableLoad | None:
    """Return the day that waits for step 4, which is going to replace silver's, or else silver's; or the leads."""
    if not bronze.of_day:
        return done.get(SILVER_LEADS)
    return done.get(cleaned_day_table(bronze.of_day)) or done.get(silver_day_table(bronze.of_day))


def _log_outdated(pending: Sequence[TableLoad], done: Mapping[str, TableLoad]) -> None:
    cleaned = (_latest_cleaned(load, done) for load in pending)
    outdated = sum(load is not None and load.code_version != cleaning_code_version() for load in cleaned)
    if outdated:
        log.info("cleaning code has changed: %d tables of silver are built again from bronze", outdated)


@patient()
def clean_day(settings: Settings, run_id: str, bronze: TableLoad) -> DayClean:
    """Clean one day of bronze into its staging table, in one transaction."""
    from etl.utils.load import copy_in, copy_out_pieces
    from etl.utils.transform import clean_csv

    table = cleaned_day_table(bronze.day)
    done = DayClean()
    with transaction(settings) as db, transaction(settings) as reader:
        hold_the_run(db, run_id, filling=table)
        forget_rejected(db, bronze.day, step=3)
        create_staged_day(db, SILVER_SNAPSHOTS, table, str(bronze.day))
        apply_silver_types(db, table)
        for clean in one_ahead(map(clean_csv, copy_out_pieces(reader, bronze.table))):
            copy_in(db, table, clean.rows, frozen=True)
            add_rejected(db, clean.rejected, step=3, run_id=run_id)
            done += DayClean(len(clean.rows), len(clean.rejected), clean.separators)
        # Step 6 must know how many rows there are: it would look up each of them in turn. One column is enough for
        # that, and leaves the rest to autovacuum.
        db.execute(sql.SQL("analyze {} (_partition_date)").format(table_name(table)))
        record_load(
            db,
            table=table,
            parent=CLEANED_SNAPSHOTS,
            run_id=run_id,
            row_count=done.rows,
            rejected_count=done.rejected,
            separator_count=done.separators,
            day=bronze.day,
            built_from=[bronze.load_id],
            code_version=cleaning_code_version(),
        )
        run_checks(db, [DAYS_ARE_RECONCILED])
    log.info("%s cleaned: %d rows, %d rejected, %d separators", bronze.day, done.rows, done.rejected, done.separators)
    return done


@patient()
def clean_leads(settings: Settings, run_id: str, bronze: TableLoad) -> DayClean:
    """Clean the leads in place of what silver had, in one transaction.

    Raises:
        DataRefusedError: no lead would be left.
    """
    from etl.utils.load import copy_in, copy_out
    from etl.utils.transform import clean_parquet

    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=SILVER_LEADS)
        clean = clean_parquet(copy_out(db, BRONZE_LEADS))
        if clean.rows.empty:
            raise DataRefusedError(
                f"{source_key(db, BRONZE_LEADS)}: none of its {bronze.row_count:,} rows has all three ids",
                hint="have it delivered again; silver and gold keep the leads that they have",
            )
        empty_table(db, SILVER_LEADS)
        apply_silver_types(db, SILVER_LEADS)
        rows = copy_in(db, SILVER_LEADS, clean.rows, frozen=True)
        rejected = clean.rejected.assign(_source_file=source_key(db, BRONZE_LEADS))
        replace_rejected(db, rejected, day=None, step=3, run_id=run_id)
        record_load(
            db,
            table=SILVER_LEADS,
            parent=SILVER_LEADS,
            run_id=run_id,
            row_count=rows,
            rejected_count=len(rejected),
            built_from=[bronze.load_id],
            code_version=cleaning_code_version(),
            facts=clean.report._asdict(),
        )
        run_checks(db, [DAYS_ARE_RECONCILED, *LEADS_ARE_DISTINCT])
    if any(clean.report):
        log.warning("leads left out: %d lack an id, %d stand there twice", *clean.report)
    log.info("leads cleaned: %d rows, %d rejected", rows, len(rejected))
    return DayClean(rows, len(rejected))


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(3))
