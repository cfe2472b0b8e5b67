"""Step 4: apply the data types of silver, and publish the days that step 3 has cleaned.

The types are declared in sql_scripts/silver/apply_silver_types.sql. The first run applies them to empty tables. Later,
if a declared type has changed, all existing days are altered in place: no row is loaded again, and the load ledger
stays valid. Tables that step 6 derives from silver are altered, too, or emptied if their rows do not fit the new types.
Cleaned days are swapped into silver.stg_csv_snapshots as partitions, all in one transaction. PostgreSQL does not attach
a partition whose types differ from its parent's, so every day has the declared types.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.engine.context import RunContext, StepResult
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import (
    TableLoad,
    current_loads,
    delete_load,
    fenced_transaction,
    move_load,
    require_tables,
)
from etl.warehouse.partitions import acquire_exclusive_lock, empty_table, swap_partition
from etl.warehouse.pending import waiting_days
from etl.warehouse.silver_types import TYPED_TABLES, apply_type_changes, pending_type_changes
from etl.warehouse.sql_scripts import quote_identifier, table_exists
from etl.warehouse.tables import CLEANED_SNAPSHOTS, SILVER_SNAPSHOTS, cleaned_partition, silver_partition

log = logging.getLogger(__name__)


def run(context: RunContext) -> StepResult:
    days = publish_silver(context.settings, context.run_id)
    rows = sum(load.row_count for load in days)
    return StepResult(rows_in=rows, rows_out=rows, metrics={"days": {"typed": len(days)}})


@retry_transient()
def publish_silver(settings: Settings, run_id: str) -> list[TableLoad]:
    """Apply the declared types, and swap cleaned days into silver, all in one transaction.

    Returns the loads of the cleaned days that were swapped, as recorded by step 3.

    Raises:
        CheckFailedError: step 1 has to run first.
        PostgresError: see `apply_types` and `swap_partition`.
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=SILVER_SNAPSHOTS) as db:
        require_tables(db, SILVER_SNAPSHOTS, created_by_step=1)
        waiting = list(waiting_days(db).values())
        for table in current_loads(db, CLEANED_SNAPSHOTS).keys() - {load.table for load in waiting}:
            db.execute(sql.SQL("drop table {}").format(quote_identifier(table)))
            delete_load(db, table)
            log.info("%s dropped: its columns are not those of %s", table, SILVER_SNAPSHOTS)
        apply_types(db, waiting)
        if not waiting:
            return []
        acquire_exclusive_lock(db, SILVER_SNAPSHOTS)
        for cleaned in waiting:
            table = silver_partition(cleaned.day)
            swap_partition(db, SILVER_SNAPSHOTS, cleaned_partition(cleaned.day), table, str(cleaned.day))
            move_load(db, run_id, cleaned, table, parent=SILVER_SNAPSHOTS)
    log.info("days published in silver: %d", len(waiting))
    return waiting


def apply_types(db: Cursor, waiting: Iterable[TableLoad]) -> None:
    """Alter tables of silver, and cleaned days, whose types differ from the declared ones.

    If the snapshots of silver are altered, the partitions that the cleaned days replace are emptied first. A table that
    step 6 derives from silver is emptied if its rows do not fit the new types.

    Args:
        waiting: the loads of cleaned days, which the same transaction swaps into silver.

    Raises:
        PostgresError: see `apply_type_changes` and `acquire_exclusive_lock`.
    """
    changes = pending_type_changes(db, [*TYPED_TABLES, *(load.table for load in waiting)])
    if not changes:
        return
    tables = [change.table for change in changes]
    acquire_exclusive_lock(db, *tables)
    if SILVER_SNAPSHOTS in tables:
        for replaced in (silver_partition(load.day) for load in waiting):
            if table_exists(db, replaced):
                empty_table(db, replaced)  # its rows are about to be replaced, and need not fit the new types
    apply_type_changes(db, changes)


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(4))
