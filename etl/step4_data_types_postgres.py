"""Step 4: cleaned text → typed silver, one day at a time.

Each day's cleaned text takes the place of its partition of silver.stg_csv_snapshots, and leaves staging. The parent is
typed from the start, so the types hold for every day, also for those that come later.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.day_tables import create_day_table, empty_table
from etl.utils.errors import CheckFailedError
from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import (
    CLEANED_SNAPSHOTS,
    SILVER_SNAPSHOTS,
    TableLoad,
    current_loads,
    forget_load,
    hold_the_run,
    record_load,
    require_tables,
    silver_day_table,
)
from etl.utils.transactions import run_sql, table_name, transaction
from etl.utils.utils_checks_db import DAYS_ARE_RECONCILED, run_checks

if TYPE_CHECKING:
    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)


def run(context: RunContext) -> StepResult:
    # --- which days wait --------------------------------------------------------------------------
    waiting = prepare_days(context.settings)

    # --- type them --------------------------------------------------------------------------------
    typed = context.for_each(partial(type_day, context.settings, context.run_id), waiting, rows=lambda rows: rows)
    return StepResult(
        rows_in=sum(load.row_count for load in waiting), rows_out=sum(typed), facts={"days": {"typed": len(typed)}}
    )


@patient()
def prepare_days(settings: Settings) -> list[TableLoad]:
    """The days of cleaned text that wait; each has its silver partition, if an empty one, from now on."""
    with transaction(settings) as db:
        require_tables(db, SILVER_SNAPSHOTS, made_by=1)
        waiting = list(current_loads(db, CLEANED_SNAPSHOTS).values())
        for load in waiting:
            create_day_table(db, SILVER_SNAPSHOTS, silver_day_table(load.day), str(load.day))
        return waiting


@patient()
def type_day(settings: Settings, run_id: str, cleaned: TableLoad) -> int:
    """Put one day's cleaned text, typed, in place of its silver partition, in one transaction."""
    table = silver_day_table(cleaned.day)
    with transaction(settings) as db:
        hold_the_run(db, run_id)
        empty_table(db, table)
        rows = run_sql(
            db,
            "silver/apply_silver_types.sql",
            silver_day=table_name(table),
            cleaned_day=table_name(cleaned.table),
            partition_date=sql.Literal(cleaned.day.date),
        )
        if rows != cleaned.row_count:
            raise CheckFailedError(
                f"{table} took {rows} of {cleaned.row_count} cleaned rows", hint="run again with --full-refresh"
            )
        # Step 6 must know how many rows there are: it would look up each of them in turn. One column is enough for
        # that, and leaves the rest to autovacuum.
        db.execute(sql.SQL("analyze {} (_partition_date)").format(table_name(table)))
        db.execute(sql.SQL("drop table {}").format(table_name(cleaned.table)))
        forget_load(db, cleaned.table)
        record_load(
            db,
            table=table,
            parent=SILVER_SNAPSHOTS,
            run_id=run_id,
            row_count=rows,
            rejected_count=cleaned.rejected_count,
            separator_count=cleaned.separator_count,
            day=cleaned.day,
            built_from=cleaned.built_from,
        )
        run_checks(db, [DAYS_ARE_RECONCILED])
    log.info("%s typed: %d rows in %s", cleaned.day, rows, table)
    return rows


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(4))
