"""Record the start and the end of each run in meta.pipeline_runs, and drop leftover staging tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from etl.warehouse.migrations import migrate
from etl.warehouse.sql_scripts import quote_identifiers
from etl.warehouse.tables import LAYERS

RUN_LOCK = int.from_bytes(b"HOMEBUDY")
"""Key of the advisory lock: one run at a time per database. PostgreSQL releases the lock when the connection ends."""


_OUR_STAGING_TABLES = (
    "^((csv_snapshots|rejected_rows|stg_csv_data|lead_quality_matching)_[0-9]+"
    "|leads|lead_quality_current|appointments|lead_status_history|affected_leads|affected_versions)$"
)


def clear_staging(db: Cursor) -> None:
    """Drop the pipeline's tables in schema staging that are no longer needed: the load ledger does not contain them."""
    db.execute(
        "select oid::regclass::text from pg_class where relnamespace = to_regnamespace('staging') and relkind = 'r' "
        "and relname ~ %s and 'staging.' || relname not in (select table_name from meta.table_loads)",
        (_OUR_STAGING_TABLES,),
    )
    for (quoted,) in db.fetchall():
        db.execute(sql.SQL(f"drop table if exists {quoted}"))  # a run that has lost the lock may drop it meanwhile


def begin_run(db: Cursor, run_id: str, version: str, arguments: Mapping[str, Any]) -> None:
    """Apply migrations, drop leftover staging tables, delete the commit markers of earlier runs, and record a new run.

    The caller holds the run lock, so a run that is still recorded as running was killed, or has lost the lock: it is
    marked as aborted.

    Raises:
        CheckFailedError: the warehouse was upgraded by a newer version (see `migrations.migrate`).
        PostgresError: see `migrations.migrate`.
    """
    migrate(db)
    clear_staging(db)
    db.execute("delete from meta.commit_marks")
    db.execute(
        "update meta.pipeline_runs set status = 'aborted', ended_at = clock_timestamp(), message = 'killed' "
        "where status = 'running'"
    )
    db.execute(
        "insert into meta.pipeline_runs (run_id, version, arguments) values (%s, %s, %s)",
        (run_id, version, Json(arguments)),
    )


def end_run(db: Cursor, run_id: str, **outcome: Any) -> None:
    """Record the end of a run: `status exit_code steps rows_per_table checks message`. Lists and dicts become JSON."""
    values = tuple(Json(value) if isinstance(value, list | dict) else value for value in outcome.values())
    update = sql.SQL("update meta.pipeline_runs set ended_at = clock_timestamp(), ({}) = %s where run_id = %s")
    db.execute(update.format(quote_identifiers(outcome)), (values, run_id))


def rows_per_table(db: Cursor) -> dict[str, int]:
    """Return the row count of each table in LAYERS, according to the load ledger."""
    db.execute("select parent_table, sum(row_count)::bigint from meta.table_loads group by parent_table")
    counts = dict(db.fetchall())
    return {table: counts.get(table, 0) for table in LAYERS}
