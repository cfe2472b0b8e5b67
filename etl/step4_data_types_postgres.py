"""Step 4: cleaned rows → typed silver: apply silver's data types, and publish the days that step 3 has cleaned.

The types are declared in sql_scripts/silver/apply_silver_types.sql and nowhere else. On the first run the tables of
silver are empty. Later, when a declared type has changed, all existing days are altered in place: no row is loaded
again, and the load ledger stays valid. A cleaned day becomes the partition of its day of silver.stg_csv_snapshots; all
days take their places in the same transaction. The parent takes no partition of other types, so the types hold for
every day, also for days added later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl.utils.day_tables import empty_table, lock_for_publishing, publish_day
from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import (
    CLEANED_SNAPSHOTS,
    SILVER_LEADS,
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
from etl.warehouse.silver_types import apply_type_changes, pending_type_changes

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)

TYPED_TABLES = (SILVER_SNAPSHOTS, SILVER_LEADS)
"""The tables of silver that get the declared types."""
DERIVED_TABLES = ("silver.row_versions", "silver.version_matches", "silver.matched_leads")
"""Those that step 6 builds from them: they get the declared types as well, as far as they exist."""


def run(context: RunContext) -> StepResult:
    days = publish(context.settings, context.run_id)
    rows = sum(load.row_count for load in days)
    return StepResult(rows_in=rows, rows_out=rows, facts={"days": {"typed": len(days)}})


@patient()
def publish(settings: Settings, run_id: str) -> list[TableLoad]:
    """Apply the types, and put the days that wait in place of silver's. Returns these days."""
    with transaction(settings) as db:
        require_tables(db, SILVER_SNAPSHOTS, made_by=1)
        waiting = list(current_loads(db, CLEANED_SNAPSHOTS).values())
        apply_types(db, waiting)
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
                code_version=cleaned.code_version,
            )
        run_checks(db, [DAYS_ARE_RECONCILED])
    log.info("silver: %d days published", len(waiting))
    return waiting


def apply_types(db: Cursor, waiting: Iterable[TableLoad]) -> None:
    """Alter silver's tables, and the cleaned days that wait, where their types are not the declared ones.

    Raises:
        PostgresError: see `apply_type_changes`; and `lock_for_publishing`.
    """
    changes = pending_type_changes(db, [*TYPED_TABLES, *(load.table for load in waiting), *DERIVED_TABLES])
    if not changes:
        return
    tables = [change.table for change in changes]
    lock_for_publishing(db, *tables)
    if SILVER_SNAPSHOTS in tables:
        for replaced in _replaced_days(db, waiting):
            empty_table(db, replaced)  # this transaction replaces its rows: they need not be converted, nor fit
    apply_type_changes(db, changes, derived=DERIVED_TABLES)


def _replaced_days(db: Cursor, waiting: Iterable[TableLoad]) -> list[str]:
    """Return the partitions of silver in whose place the waiting days are about to be put."""
    names = [silver_day_table(load.day) for load in waiting]
    db.execute(
        "select name from unnest(%s::text[]) as name "
        "inner join pg_inherits on inhrelid = to_regclass(name) and inhparent = %s::regclass",
        (names, SILVER_SNAPSHOTS),
    )
    return [name for (name,) in db.fetchall()]


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(4))
