"""The columns of a CRM snapshot: their names in bronze and silver, and which of them are the content of a row.

The types of the silver columns are declared in sql_scripts/silver/apply_silver_types.sql.
"""

from __future__ import annotations

SILVER_NAMES = {
    "ENTRYDATE": "entry_date",
    "LEADNUMBER": "lead_number",
    "email_hash": "email_hash",
    "phone_hash": "phone_hash",
    "CITY": "city",
    "STATE": "state",
    "ZIP": "zip",
    "APPT_DATE": "appt_date",
    "Set": "set",
    "Demo": "demo",
    "Dispo": "dispo",
    "JOB_STATUS": "job_status",
    "location": "location",
    "_extraction_date": "_extraction_date",
    "_partition_date": "_partition_date",
}
"""Column of bronze.csv_snapshots → column of silver.stg_csv_snapshots."""

ROW_HASH = "_row_hash"
"""Content hash of a silver row: rows with the same lead number and the same hash have the same content."""

ROW_HASH_VERSION = 1
"""Raise it when the algorithm of `_row_hash` changes: all days are cleaned again then."""

CONTENT_COLUMNS = (
    "lead_number",
    "email_hash",
    "phone_hash",
    "city",
    "state",
    "zip",
    "appt_date",
    "appt_time",
    "set",
    "demo",
    "dispo",
    "job_status",
    "location",
)
"""What `_row_hash` covers and silver.row_versions keeps: what the CRM says of a lead on a day."""

SILVER_ONLY = ("appt_time",)
"""Content columns that gold does not have; the time of day of an appointment is in gold.appointments."""

GOLD_COLUMNS = tuple(name for name in CONTENT_COLUMNS if name not in SILVER_ONLY)
"""The content columns that the gold tables show."""
