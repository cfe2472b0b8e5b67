"""Names of the tables in the warehouse, and of their partitions and staging tables for each day."""

from __future__ import annotations

from functools import partial

from etl.utils.columns import CRM_COLUMNS, ROW_HASH, SOURCE_ROW
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
"""Name under which the load ledger groups the cleaned days that step 4 has not published yet."""
ROW_CONTENTS = "silver.row_contents"
ROW_VERSION_TABLES = (ROW_CONTENTS, "silver.versioned_days", "silver.version_matches", "silver.matched_leads")
"""Tables that step 6 builds from silver, and from which it builds gold: see etl/warehouse/row_versions.py."""
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
"""The tables whose row counts are part of the summary and of meta.pipeline_runs, in this order."""

SNAPSHOT_COLUMNS = {
    BRONZE_SNAPSHOTS: {column.bronze: "text" for column in CRM_COLUMNS},
    # As text: step 4 applies the types.
    SILVER_SNAPSHOTS: {column.silver: "text" for column in CRM_COLUMNS} | {ROW_HASH: "bigint", SOURCE_ROW: "bigint"},
}
"""Table → column → data type, for the columns that step 1 adds to existing tables that lack them."""


def _daily_table(name: str, day: Day) -> str:
    return f"{name}_{day.number:02d}"


bronze_partition = partial(_daily_table, "partitions.csv_snapshots")
staging_bronze_partition = partial(_daily_table, "staging.csv_snapshots")
"""Table of a day of bronze that is loaded but not yet validated."""
staging_rejected_table = partial(_daily_table, "staging.rejected_rows")
"""Table with the rejected lines of a file that is not yet validated."""
cleaned_partition = partial(_daily_table, CLEANED_SNAPSHOTS)
"""Table of a day that step 3 has cleaned and step 4 has not yet published."""
silver_partition = partial(_daily_table, "silver.stg_csv_data")
gold_partition = partial(_daily_table, "partitions.lead_quality_matching")
staging_gold_partition = partial(_daily_table, "staging.lead_quality_matching")
"""Table of a day of gold that is built but not yet published."""
