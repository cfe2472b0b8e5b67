"""Step 4: cleaned rows → typed silver: the days that step 3 has cleaned take their places.

Each becomes the partition of its day of silver.stg_csv_snapshots, all in one short transaction. The parent is typed
from the start and takes no partition of other types, so they hold for every day, also for those that come later.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from etl.utils.day_tables import lock_for_publishing, publish_day
from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import (
    CLEANED_SNAPSHOTS,
    SILVER_SNAPSHOTS,
    TableLoad,
    cleaned_day_table,
    current_loads,
    forget_load,
    record_load,
    require_tables,
    silver_day_table,
)
from etl.utils.transactions import transaction
from etl.utils.utils_checks_db import DAYS_ARE_RECONCILED, run_checks

if TYPE_CHECKING:
    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)


def run(context: RunContext) -> StepResult:
    days = publish(context.settings, context.run_id)
    rows = sum(load.row_count for load in days)
    return StepResult(rows_in=rows, rows_out=rows, facts={"days": {"typed": len(days)}})


@patient()
def publish(settings: Settings, run_id: str) -> list[TableLoad]:
    """Put the days that wait in place of silver's. Returns them."""
    with transaction(settings) as db:
        require_tables(db, SILVER_SNAPSHOTS, made_by=1)
        waiting = list(current_loads(db, CLEANED_SNAPSHOTS).values())
        if not waiting:
            return []
        lock_for_publishing(db, SILVER_SNAPSHOTS)
        for cleaned in waiting:
            table = silver_day_table(cleaned.day)
            publish_day(db, SILVER_SNAPSHOTS, cleaned_day_table(cleaned.day), table, str(cleaned.day))
            forget_load(db, cleaned.table)
            record_load(
                db,
                table=table,
                parent=SILVER_SNAPSHOTS,
                run_id=run_id,
                row_count=cleaned.row_count,
                rejected_count=cleaned.rejected_count,
                separator_count=cleaned.separator_count,
                day=cleaned.day,
                built_from=cleaned.built_from,
            )
        run_checks(db, [DAYS_ARE_RECONCILED])
    log.info("silver: %d days published", len(waiting))
    return waiting


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(4))
