"""Step 6: match row versions to backend leads, grade them, build the tables of gold, and publish them.

Row versions are updated day by day, one transaction each. Days of gold.lead_quality_matching are built in parallel,
each as soon as its contents are matched. The tables of leads are built from the versions of affected leads. All tables,
anomalies included, are published in one short transaction: a reader sees the old gold or the new, never a mix.
Grain of gold.lead_quality_matching: one row per snapshot row and matching lead; one row if no lead matches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from psycopg2 import sql

from etl.engine.context import RunContext, StepResult
from etl.utils.day import Day
from etl.utils.errors import CheckFailedError
from etl.utils.retry import retry_transient
from etl.utils.utils_checks_db import GOLD_HAS_EVERY_ROW, LEADS_ARE_THE_BACKENDS, run_checks
from etl.utils.utils_connection import Settings
from etl.warehouse import anomalies, gold_models, pending, row_versions
from etl.warehouse.load_ledger import (
    TableLoad,
    current_loads,
    delete_other_loads,
    fenced_transaction,
    record_load,
    recorded_facts,
    require_loaded,
    require_tables,
)
from etl.warehouse.partitions import acquire_exclusive_lock, create_staging_partition, swap_partition
from etl.warehouse.sql_scripts import quote_identifier, run_sql
from etl.warehouse.tables import (
    GOLD_ANOMALIES,
    GOLD_MATCHING,
    ROW_VERSION_TABLES,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    gold_partition,
    staging_gold_partition,
)

log = logging.getLogger(__name__)

SCENARIOS = {
    "both": "email_match and phone_match",
    "email_only": "email_match and not phone_match",
    "phone_only": "phone_match and not email_match",
    "none": "not email_match and not phone_match",
}
"""Match scenario → condition on the rows of gold.lead_quality_matching."""


@dataclass(frozen=True)
class BuiltDay:
    """A day of gold.lead_quality_matching, built in schema staging and not yet published."""

    day: Day
    rows: int
    silver_load: int
    metrics: Mapping[str, Any]
    """Number of rows in each match scenario, the counts of steps 2 and 3, and those of `anomalies.count_metrics`."""


def run(context: RunContext) -> StepResult:
    settings, run_id = context.settings, context.run_id

    # --- load inputs ------------------------------------------------------------------------------
    silver, leads, gold, versioned = prepare(settings, run_id, full_refresh=context.full_refresh)
    outdated = {load.table for load in silver if pending.why_build(load, gold, full_refresh=context.full_refresh)}

    # --- bring row versions up to date; build each day as soon as its contents are matched --------
    matched_days = row_versions.apply_days(settings, run_id, silver, leads, versioned)
    built = context.map(
        partial(build_day, settings, run_id),
        (day for day in matched_days if day.table in outdated),
        total=len(outdated),
        rows=lambda day: day.rows,
    )

    # --- build the tables of leads, publish -------------------------------------------------------
    with_models = gold_models.build_models(settings, run_id)
    matched = publish_gold(settings, run_id, silver, built, with_models=with_models)

    # --- report -----------------------------------------------------------------------------------
    return StepResult(
        rows_in=sum(load.row_count for load in silver if load.table in outdated),
        rows_out=sum(day.rows for day in built),
        metrics={"days": {"published": len(built)}, "matched": matched},
    )


@retry_transient()
def prepare(
    settings: Settings, run_id: str, *, full_refresh: bool
) -> tuple[list[TableLoad], TableLoad, dict[str, TableLoad], dict[date, int]]:
    """Read the loads of silver and gold, and prepare the row versions (see `row_versions.prepare`), in one transaction.

    Returns the loads of silver's days, in order; the load of its leads; the loads of gold's days by table name; and the
    ids of the loads of silver from which the row versions were built, by day.

    Args:
        full_refresh: empty the row versions.

    Raises:
        CheckFailedError: an earlier step has to run first.
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=GOLD_MATCHING) as db:
        require_tables(db, SILVER_SNAPSHOTS, SILVER_LEADS, *ROW_VERSION_TABLES, created_by_step=1)
        require_tables(db, GOLD_MATCHING, *gold_models.MODELS, GOLD_ANOMALIES, "gold.daily_metrics", created_by_step=5)
        require_loaded(db)
        leads = current_loads(db, SILVER_LEADS, include_modified=True).get(SILVER_LEADS)
        if leads is None:
            raise CheckFailedError(
                f"{SILVER_LEADS} has not been loaded",
                hint="load the leads file: python main.py --from-step 2. If a step refuses it, request it again",
            )
        versioned = row_versions.prepare(db, run_id, leads, restart=full_refresh)
        silver = list(current_loads(db, SILVER_SNAPSHOTS, include_modified=True).values())
        gold = current_loads(db, GOLD_MATCHING)
    return silver, leads, gold, versioned


@retry_transient()
def build_day(settings: Settings, run_id: str, silver: TableLoad) -> BuiltDay:
    """Build one day of gold.lead_quality_matching in a staging table, in one transaction. Returns its counts.

    Raises:
        LockHeldError: see `fenced_transaction`.
    """
    day, staging = silver.day, staging_gold_partition(silver.day)
    with fenced_transaction(settings, run_id, filling=staging) as db:
        create_staging_partition(db, GOLD_MATCHING, staging, str(day))
        model = gold_models.model_query(GOLD_MATCHING, snapshot=row_versions.snapshot_rows(silver))
        rows = run_sql(
            db, gold_models.INSERT_DAY, target=quote_identifier(staging), columns=gold_models.COLUMNS, model=model
        )
        add_key = "alter table {} add primary key (_partition_date, lead_match_id)"
        db.execute(sql.SQL(add_key).format(quote_identifier(staging)))
        counts = sql.SQL(", ").join(sql.SQL(f"count(*) filter (where {condition})") for condition in SCENARIOS.values())
        db.execute(sql.SQL("select {} from {}").format(counts, quote_identifier(staging)))
        scenarios = dict(zip(SCENARIOS, db.fetchone() or (), strict=True))
        metrics = scenarios | dict(silver.metrics) | anomalies.count_metrics(db, row_versions.snapshot_rows(silver))
    log.info("%s matched: %d rows", day, rows)
    return BuiltDay(day, rows, silver.load_id, metrics)


@retry_transient()
def publish_gold(
    settings: Settings, run_id: str, silver: Sequence[TableLoad], built: Sequence[BuiltDay], *, with_models: bool
) -> dict[str, int]:
    """Publish the staging tables of gold, drop days that silver no longer has, update anomalies: in one transaction.

    Returns match scenario → number of rows of gold.lead_quality_matching, according to the load ledger.

    Args:
        with_models: also merge the staging tables of leads into gold.

    Raises:
        PostgresError: see `acquire_exclusive_lock` and `swap_partition`.
        CheckFailedError: gold lacks rows of silver, or has more leads than silver.
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=GOLD_MATCHING) as db:
        removed = pending.removed_partitions(db, (load.day for load in silver))
        if built:
            earlier, accepted = recorded_facts(db, GOLD_MATCHING), anomalies.accepted_changes(db)
        if with_models:
            gold_models.merge_models(db, run_id)
        if built or removed:
            # Lock all tables of gold: a query that joins them must not see some before and some after the swap.
            acquire_exclusive_lock(db, GOLD_MATCHING, *gold_models.MODELS)
        for table in removed:
            db.execute(sql.SQL("drop table if exists {}").format(quote_identifier(table)))
        delete_other_loads(db, GOLD_MATCHING, [gold_partition(load.day) for load in silver])
        for match in built:
            table = gold_partition(match.day)
            swap_partition(db, GOLD_MATCHING, staging_gold_partition(match.day), table, str(match.day))
            best = anomalies.best_match_shares(match.day.date, match.metrics, earlier.get(table, {}), accepted)
            record_load(
                db,
                run_id,
                table,
                match.rows,
                parent=GOLD_MATCHING,
                day=match.day,
                built_from=[match.silver_load],
                code_version=gold_models.code_version(GOLD_MATCHING),
                metrics={**match.metrics, "best_match_shares": best},
            )
        if with_models or built or removed:
            run_sql(db, "gold/create_matching_key.sql")
            run_checks(db, [GOLD_HAS_EVERY_ROW, LEADS_ARE_THE_BACKENDS])
        anomalies.update_anomalies(db, run_id)
        loads = current_loads(db, GOLD_MATCHING).values()
    return {scenario: sum(load.metrics[scenario] for load in loads) for scenario in SCENARIOS}


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(6))
