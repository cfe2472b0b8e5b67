"""Step 3: clean the days and the leads of bronze.

A day is cleaned if its cleaned rows are missing, were built from another load of bronze or by another version of the
cleaning code, or were modified outside the pipeline, or if the number of its rejected rows has changed; in a full
refresh, every day is cleaned. The cleaned rows are copied to a staging table, which step 4 swaps into silver. The
staging table gets silver's types before it is filled (see sql_scripts/silver/apply_silver_types.sql), because altering
the types afterwards would write all rows twice. Leads are cleaned under the same conditions, and replace the rows of
silver.stg_leads_parquet directly.

Modules that import pandas are imported only if there is something to clean, which makes an unchanged run faster.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.engine.context import RunContext, StepResult
from etl.engine.prefetch import prefetch
from etl.utils.errors import DataRefusedError
from etl.utils.retry import retry_transient
from etl.utils.utils_checks_db import DAYS_ARE_RECONCILED, LEADS_ARE_DISTINCT, LEADS_ARE_HASHED, run_checks
from etl.utils.utils_connection import Settings
from etl.warehouse import pending
from etl.warehouse.load_ledger import (
    TableLoad,
    current_loads,
    fenced_transaction,
    record_load,
    require_tables,
    source_key,
)
from etl.warehouse.partitions import create_staging_partition, empty_table
from etl.warehouse.rejected_rows import add_rejected, delete_rejected, describe_reasons, warn_of_rejected
from etl.warehouse.silver_types import apply_type_changes, pending_type_changes
from etl.warehouse.sql_scripts import quote_identifier
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    CLEANED_SNAPSHOTS,
    REJECTED_ROWS,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    cleaned_partition,
)
from etl.warehouse.transactions import transaction

if TYPE_CHECKING:
    import pandas as pd

    from etl.utils.transform import CleanLeads, CleanSnapshots, Nulled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DayClean:
    """Counts of a cleaned day, or of the cleaned leads (only `rows`, `rejected` and `warnings`)."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Number of rejected rows by reason."""
    separators: int = 0
    nulled: Mapping[str, Nulled] = field(default_factory=dict)
    """Column of silver → its values that became NULL (see `transform.CleanSnapshots`)."""
    warnings: Sequence[str] = ()
    """Findings about the leads, for the summary."""

    def with_chunk(self, chunk: CleanSnapshots) -> DayClean:
        return DayClean(
            self.rows + len(chunk.rows),
            self.rejected + Counter(chunk.rejected["reason"]),
            self.separators + chunk.separators,
            {name: self.nulled[name] + counted if self.nulled else counted for name, counted in chunk.nulled.items()},
        )


def run(context: RunContext) -> StepResult:
    # --- load inputs: which days are pending ------------------------------------------------------
    bronze, done = read_current_loads(context.settings)
    why = {table: pending.why_clean(load, done, full_refresh=context.full_refresh) for table, load in bronze.items()}
    tables = [load for table, load in bronze.items() if why[table]]
    days, leads = ([load for load in tables if bool(load.of_day) is is_day] for is_day in (True, False))
    if outdated := list(why.values()).count(pending.CLEANING_CODE_CHANGED):
        log.info("%s; tables of silver to rebuild from bronze: %d", pending.CLEANING_CODE_CHANGED, outdated)

    # --- clean the leads first, so that the days can reuse their memory ---------------------------
    cleaned: list[DayClean] = []
    refused: list[DataRefusedError] = []
    rows_in = sum(load.row_count for load in days)
    try:
        # A worker may have other limits in its environment.
        limits = (context.settings.max_reject_ratio, context.settings.max_row_drop)
        clean_all = partial(clean_leads, context.settings, context.run_id, *limits)
        cleaned = context.map(clean_all, leads, rows=lambda leads: leads.rows)
        rows_in += sum(load.row_count for load in leads)
    except DataRefusedError as refusal:
        refused.append(refusal)
    clean = partial(clean_day, context.settings, context.run_id)
    cleaned += context.map(clean, days, rows=lambda day: day.rows)

    # --- report -----------------------------------------------------------------------------------
    metrics = {"days": {"cleaned": len(days)}, "rows": {"separators": sum(day.separators for day in cleaned)}}
    return StepResult(
        rows_in=rows_in,
        rows_out=sum(day.rows for day in cleaned),
        rejected=sum((day.rejected for day in cleaned), Counter[str]()),
        metrics=metrics | ({"files": {"refused": len(refused)}} if refused else {}),
        refused=refused,
        warnings=[warning for counts in cleaned for warning in counts.warnings],
    )


@retry_transient()
def read_current_loads(settings: Settings) -> tuple[dict[str, TableLoad], dict[str, TableLoad]]:
    """Return the current loads of bronze, and those of cleaned rows (see `pending.cleaned_loads`), by table name.

    Raises:
        CheckFailedError: step 1 has to run first.
    """
    with transaction(settings) as db:
        require_tables(db, BRONZE_SNAPSHOTS, SILVER_SNAPSHOTS, REJECTED_ROWS, created_by_step=1)
        return current_loads(db, BRONZE_SNAPSHOTS, BRONZE_LEADS), pending.cleaned_loads(db)


@retry_transient()
def clean_day(settings: Settings, run_id: str, bronze: TableLoad) -> DayClean:
    """Write the cleaned rows of one day of bronze to a staging table, in one transaction. Returns its counts.

    Rows that step 3 has rejected for this day before are deleted from silver.rejected_rows, and the new ones inserted.

    Raises:
        CheckFailedError: the rows of bronze and silver do not add up.
        PostgresError: see `apply_type_changes`.
        LockHeldError: see `fenced_transaction`.
    """
    from etl.utils.transform import clean_csv
    from etl.warehouse.bulk_copy import copy_from_frame, copy_to_frames

    table = cleaned_partition(bronze.day)
    done = DayClean()
    with fenced_transaction(settings, run_id, filling=table) as db, transaction(settings) as reader:
        delete_rejected(db, bronze.day, step=3)
        create_staging_partition(db, SILVER_SNAPSHOTS, table, str(bronze.day))
        apply_type_changes(db, pending_type_changes(db, [table]))
        for clean in prefetch(map(clean_csv, copy_to_frames(reader, bronze.table))):
            copy_from_frame(db, table, clean.rows, frozen=True)
            add_rejected(db, clean.rejected, step=3, run_id=run_id)
            done = done.with_chunk(clean)
        db.execute(sql.SQL("create index on {} (_row_hash)").format(quote_identifier(table)))  # for --explain
        # The planner needs a row count, else step 6 gets bad plans. One column is enough; autovacuum does the rest.
        db.execute(sql.SQL("analyze {} (_partition_date)").format(quote_identifier(table)))
        # Includes the counts of bronze: when step 6 publishes them with the day, bronze may already have a newer file.
        nulled = {name: counted._asdict() for name, counted in done.nulled.items() if counted.nulled}
        rejected = bronze.rejected_count + done.rejected.total()
        metrics = dict(bronze.metrics) | {"nulled": nulled, "rejected": rejected}
        record_load(
            db,
            run_id,
            table,
            done.rows,
            parent=CLEANED_SNAPSHOTS,
            rejected_count=done.rejected.total(),
            separator_count=done.separators,
            day=bronze.day,
            built_from=[bronze.load_id],
            code_version=pending.cleaning_code_version(),
            metrics=metrics,
        )
        run_checks(db, [DAYS_ARE_RECONCILED])
    counts = (done.rows, done.rejected.total(), done.separators)
    log.info("%s cleaned: rows %d, rejected %d, separators %d", bronze.day, *counts)
    warn_of_rejected(str(bronze.day), done.rejected)
    return done


@retry_transient()
def clean_leads(
    settings: Settings, run_id: str, max_reject_ratio: float, max_row_drop: float, bronze: TableLoad
) -> DayClean:
    """Replace the leads in silver, and their rejected rows, with those cleaned from bronze, in one transaction.

    Returns the counts of the cleaned leads.

    Raises:
        DataRefusedError: no row has all three ids, or each such row has an id that is too long; too many rows are
            rejected (MAX_REJECT_RATIO); or there are far fewer leads than before (MAX_ROW_DROP). Silver is unchanged.
        CheckFailedError: the rows of bronze and silver do not add up.
        PostgresError: see `empty_table` and `apply_type_changes`.
        LockHeldError: see `fenced_transaction`.
    """
    import pandas as pd

    from etl.utils.transform import clean_parquet
    from etl.warehouse.bulk_copy import copy_from_frame, copy_to_frames

    with fenced_transaction(settings, run_id, filling=SILVER_LEADS) as db:
        clean = clean_parquet(pd.concat(copy_to_frames(db, BRONZE_LEADS), ignore_index=True))
        _refuse_rejected_leads(db, bronze, clean, max_reject_ratio)
        findings = _compare_with_known_leads(db, len(clean.rows), max_row_drop)
        empty_table(db, SILVER_LEADS)
        apply_type_changes(db, pending_type_changes(db, [SILVER_LEADS]))
        rows = copy_from_frame(db, SILVER_LEADS, clean.rows, frozen=True)
        rejected = _with_file_position(db, clean.rejected)
        delete_rejected(db, None, step=3)
        add_rejected(db, rejected, step=3, run_id=run_id)
        record_load(
            db,
            run_id,
            SILVER_LEADS,
            rows,
            rejected_count=len(rejected),
            built_from=[bronze.load_id],
            code_version=pending.cleaning_code_version(),
            metrics=clean.report._asdict() | ({"findings": findings} if findings else {}),
        )
        warnings = run_checks(db, [DAYS_ARE_RECONCILED, LEADS_ARE_HASHED, *LEADS_ARE_DISTINCT])
    if any(clean.report):
        log.warning("leads: %d dropped because an id is missing, %d as duplicates", *clean.report)
    log.info("leads cleaned: %d rows, %d rejected", rows, len(rejected))
    reasons = Counter(rejected["reason"])
    warn_of_rejected("leads", reasons)
    for warning in warnings:
        log.warning("%s", warning)
    return DayClean(rows, reasons, warnings=warnings)


def _refuse_rejected_leads(db: Cursor, bronze: TableLoad, clean: CleanLeads, max_reject_ratio: float) -> None:
    """Raise if cleaning leaves no row of the leads file, or if steps 2 and 3 reject too many of its rows."""
    if clean.rows.empty:
        raise DataRefusedError(
            f"{source_key(db, BRONZE_LEADS)}: none of its {bronze.row_count:,} rows has lead_UUID, "
            "phone_hash and email_hash, each of at most 255 characters",
            hint="request the file again; the leads of gold are not replaced",
        )
    reasons = Counter({"NUL byte": bronze.rejected_count}) + Counter(clean.rejected["reason"])
    rejects, records = reasons.total(), bronze.row_count + bronze.rejected_count
    if rejects > max_reject_ratio * records:
        raise DataRefusedError(
            f"{source_key(db, BRONZE_LEADS)}: {rejects:,} of its {records:,} rows ({rejects / records:.2%}) cannot be "
            f"loaded, more than MAX_REJECT_RATIO={max_reject_ratio:g}: {describe_reasons(reasons)}",
            hint="request the file again or, to load its other rows, raise MAX_REJECT_RATIO above this share; the "
            "leads of gold are not replaced",
        )


def _compare_with_known_leads(db: Cursor, rows: int, max_row_drop: float) -> list[str]:
    """Compare the number of cleaned leads with the last load. Returns a finding, as a list, if they are far fewer.

    If there are not more leads than before, an earlier finding is returned again. The check LEADS_ARE_COMPLETE reports
    it in every run. The last load counts even if its table in silver was dropped.

    Raises:
        DataRefusedError: the decrease exceeds `max_row_drop`.
    """
    db.execute("select row_count, facts from meta.table_loads where table_name = %s", (SILVER_LEADS,))
    known_rows, metrics = db.fetchone() or (0, {})
    if rows > known_rows:
        return []
    if known_rows < FEWEST_LEADS or rows >= (1 - min(UNUSUAL_DROP, max_row_drop)) * known_rows:
        return list(metrics.get("findings", ()))
    file, drop = source_key(db, BRONZE_LEADS), 1 - rows / known_rows
    finding = f"{file}: {rows:,} leads after cleaning, down from {known_rows:,}: a decrease of {drop:.2%}"
    if drop > max_row_drop:
        raise DataRefusedError(
            f"{finding}, more than MAX_ROW_DROP={max_row_drop:g}; the leads of gold are not replaced",
            hint="request the complete file; if it is correct, raise MAX_ROW_DROP above this decrease for this run",
        )
    return [finding]


UNUSUAL_DROP = 0.05
"""Share of the leads whose loss is reported as a warning."""
FEWEST_LEADS = 50
"""Minimum number of leads that is compared with the next file."""


def _with_file_position(db: Cursor, rejected: pd.DataFrame) -> pd.DataFrame:
    """Add the leads file and the row numbers in it to rejected rows. Bronze lacks the rows that step 2 rejected."""
    db.execute("select _source_row from silver.rejected_rows where _partition_date is null and step = 2 order by 1")
    rows = rejected["_source_row"]
    for (rejected_before,) in db.fetchall():
        rows = rows + (rows >= rejected_before)
    return rejected.assign(_source_file=source_key(db, BRONZE_LEADS), _source_row=rows)


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(3))
