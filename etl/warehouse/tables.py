"""Names of the warehouse's tables, and of the table of each day."""

from __future__ import annotations

from functools import partial

from etl.utils.day import Day

BRONZE_SNAPSHOTS = "bronze.csv_snapshots"
BRONZE_LEADS = "bronze.leads_parquet"
SILVER_SNAPSHOTS = "silver.stg_csv_snapshots"
SILVER_LEADS = "silver.stg_leads_parquet"
REJECTED_ROWS = "silver.rejected_rows"
GOLD_MATCHING = "gold.lead_quality_matching"
GOLD_LEADS = "gold.leads"
GOLD_CURRENT = "gold.lead_quality_current"
GOLD_APPOINTMENTS = "gold.appointments"
GOLD_HISTORY = "gold.lead_status_history"
GOLD_ANOMALIES = "gold.data_anomalies"
CLEANED_SNAPSHOTS = "staging.stg_csv_data"
"""Parent of the cleaned days that step 4 has not published yet, in the load ledger."""
ROW_CONTENTS = "silver.row_contents"
VERSION_MATCHES = "silver.version_matches"
LAYERS = (
    BRONZE_SNAPSHOTS,
    BRONZE_LEADS,
    SILVER_SNAPSHOTS,
    SILVER_LEADS,
    GOLD_MATCHING,
    GOLD_LEADS,
    GOLD_CURRENT,
    GOLD_APPOINTMENTS,
    GOLD_HISTORY,
)


def _daily_table(name: str, day: Day) -> str:
    return f"{name}_{day.suffix}"


bronze_partition = partial(_daily_table, "partitions.csv_snapshots")
staging_bronze_partition = partial(_daily_table, "staging.csv_snapshots")
"""A day of bronze that is loaded but not yet validated."""
staging_rejected_table = partial(_daily_table, "staging.rejected_rows")
"""Rejected lines of a file that is not yet validated."""
cleaned_partition = partial(_daily_table, CLEANED_SNAPSHOTS)
"""A cleaned day on its way from step 3 to step 4."""
silver_partition = partial(_daily_table, "silver.stg_csv_data")
gold_partition = partial(_daily_table, "partitions.lead_quality_matching")
staging_gold_partition = partial(_daily_table, "staging.lead_quality_matching")
"""A day of gold that is built but not yet published."""
