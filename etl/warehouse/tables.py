"""Names of the warehouse's tables, and of the table of each day."""

from __future__ import annotations

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
CLEANED_SNAPSHOTS = "staging.stg_csv_data"
"""Stands for the cleaned days that wait to be published."""
ROW_VERSIONS = "silver.row_versions"
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


def bronze_partition(day: Day) -> str:
    return f"partitions.csv_snapshots_{day.suffix}"


def staging_bronze_partition(day: Day) -> str:
    """A day of bronze that is loaded but not yet validated."""
    return f"staging.csv_snapshots_{day.suffix}"


def staging_rejected_table(day: Day) -> str:
    """Rejected lines of a file that is not yet validated."""
    return f"staging.rejected_rows_{day.suffix}"


def cleaned_partition(day: Day) -> str:
    """A cleaned day on its way from step 3 to step 4."""
    return f"staging.stg_csv_data_{day.suffix}"


def silver_partition(day: Day) -> str:
    return f"silver.stg_csv_data_{day.suffix}"


def gold_partition(day: Day) -> str:
    return f"partitions.lead_quality_matching_{day.suffix}"


def staging_gold_partition(day: Day) -> str:
    """A day of gold that is built but not yet published."""
    return f"staging.lead_quality_matching_{day.suffix}"
