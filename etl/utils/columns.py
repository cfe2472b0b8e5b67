"""The columns of a CRM snapshot, declared once for all layers. To add one, see docs/operations.md, "Add a column".

The types of silver's columns are declared in sql_scripts/silver/apply_silver_types.sql.
"""

from __future__ import annotations

from typing import NamedTuple


class CrmColumn(NamedTuple):
    """A column of the CRM's snapshots."""

    bronze: str
    """Name in bronze.csv_snapshots and in the header of files."""
    silver: str
    """Name in silver and gold."""
    other_names: tuple[str, ...] = ()
    """Other names in the header of files."""
    rule: str | None = None
    """Function of etl/utils/cell_rules.py that cleans its values; None if it has none of its own. Texts that stand for
    a missing value become NULL in every column; blanks around `location` are removed."""
    max_length: int | None = None
    """For text columns: rows with longer values are rejected."""
    is_optional: bool = False
    """Whether a file may lack the column, which is NULL then."""
    is_content: bool = True
    """Whether the column is part of `_row_hash` and of silver.row_contents."""
    is_in_gold: bool = True
    """Whether gold has the column, if it is part of the content."""


CRM_COLUMNS = (
    CrmColumn("ENTRYDATE", "entry_date", rule="parse_timestamp", is_content=False),
    CrmColumn("LEADNUMBER", "lead_number", rule="without_fraction"),
    CrmColumn("email_hash", "email_hash", max_length=255),
    CrmColumn("phone_hash", "phone_hash", max_length=255),
    CrmColumn("CITY", "city", other_names=("CityName",), max_length=100),
    CrmColumn("STATE", "state", rule="usps_state"),
    CrmColumn("ZIP", "zip", rule="clean_zip"),
    CrmColumn("APPT_DATE", "appt_date", other_names=("Appt Date",), rule="parse_timestamp"),
    CrmColumn("Set", "set", rule="as_flag"),
    CrmColumn("Demo", "demo", rule="as_flag"),
    CrmColumn("Dispo", "dispo", max_length=50),
    CrmColumn("JOB_STATUS", "job_status", other_names=("Job Status",), max_length=100),
    CrmColumn("location", "location", max_length=255, is_optional=True),
)

APPT_TIME = "appt_time"
"""The time of day of `APPT_DATE`: a content column of silver; gold has it in gold.appointments."""

NA_VALUES = ("", "nan", "None", "<NA>", "NaT")
"""Texts that other programs write for a missing value. No city, disposition or status has such a name."""

BRONZE_NAMES = {name: column.bronze for column in CRM_COLUMNS for name in (column.bronze, *column.other_names)}
"""Column name in a file's header → column of bronze.csv_snapshots. Other columns go into `_extra`."""

BRONZE_COLUMNS = tuple(column.bronze for column in CRM_COLUMNS)
OPTIONAL_COLUMNS = frozenset(column.bronze for column in CRM_COLUMNS if column.is_optional)

SILVER_NAMES = {column.bronze: column.silver for column in CRM_COLUMNS} | {
    "_extraction_date": "_extraction_date",
    "_partition_date": "_partition_date",
}
"""Column of bronze.csv_snapshots → column of silver.stg_csv_snapshots."""

MAX_LENGTH = {column.silver: column.max_length for column in CRM_COLUMNS if column.max_length}
"""Maximum lengths of text columns, as declared in sql_scripts/silver/apply_silver_types.sql."""

SOURCE_ROW = "_source_row"
"""Line of the file on which a row starts: it leads from a row of silver to its row of bronze."""

ROW_HASH = "_row_hash"
"""Content hash of a silver row: rows with the same lead number and the same hash have the same content."""

ROW_HASH_VERSION = 1
"""Increase it when the algorithm of `_row_hash` changes: all days are cleaned again then."""

CONTENT_COLUMNS = tuple(
    name
    for column in CRM_COLUMNS
    if column.is_content
    for name in (column.silver, *([APPT_TIME] if column.bronze == "APPT_DATE" else []))
)
"""The columns that `_row_hash` covers and silver.row_contents contains: what the CRM says about a lead on a day."""

SILVER_COLUMNS = (
    *(column.silver for column in CRM_COLUMNS if not column.is_content),
    *CONTENT_COLUMNS,
    "_extraction_date",
    "_partition_date",
    SOURCE_ROW,
)
"""The columns of silver.stg_csv_snapshots, but for `_row_hash`."""

GOLD_COLUMNS = tuple(column.silver for column in CRM_COLUMNS if column.is_content and column.is_in_gold)
"""The content columns in gold."""
