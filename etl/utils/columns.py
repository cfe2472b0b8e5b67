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
    """Other names of the column in the header of files."""
    rule: str | None = None
    """Name of the function in etl/utils/cell_rules.py that cleans trimmed values. None: values keep their surrounding
    blanks in silver; gold trims them, except hashes. In every column, NA_VALUES become NULL."""
    max_length: int | None = None
    """Maximum number of characters of a text column: rows with longer values are rejected."""
    is_optional: bool = False
    """Whether files may lack the column; its values are NULL then."""
    is_content: bool = True
    """Whether the column is part of `_row_hash` and of silver.row_contents."""
    is_in_gold: bool = True
    """Whether gold contains the column. Columns that are not content are never in gold."""


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
    CrmColumn("location", "location", rule="trimmed", max_length=255, is_optional=True),
)

APPT_TIME = "appt_time"
"""The time of day of `APPT_DATE`: a content column of silver. In gold it is part of appointments.appointment_date."""

BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u200c\u200d\u2060\ufeff"
"""The characters that are trimmed from column names, from hashes before they are compared, and from texts in gold:
Unicode's white space, zero-width characters and the byte order mark."""

NA_VALUES = ("", "nan", "None", "<NA>", "NaT")
"""Trimmed texts that other programs write for a missing value, and that are never a city, disposition or status."""

BLANK_ROW, FOOTER = "blank row", "no lead: only one cell has a value"
"""Reasons of rejected records that are not leads: rows without a value, and totals or footers with only one value."""

BRONZE_NAMES = {name: column.bronze for column in CRM_COLUMNS for name in (column.bronze, *column.other_names)}
"""Column name in a file's header → column of bronze.csv_snapshots. The column `_extra` contains all other columns."""

BRONZE_COLUMNS = tuple(column.bronze for column in CRM_COLUMNS)
OPTIONAL_COLUMNS = frozenset(column.bronze for column in CRM_COLUMNS if column.is_optional)

SILVER_NAMES = {column.bronze: column.silver for column in CRM_COLUMNS} | {
    "_extraction_date": "_extraction_date",
    "_partition_date": "_partition_date",
}
"""Column of bronze.csv_snapshots → column of silver.stg_csv_snapshots."""

MAX_LENGTH = {column.silver: column.max_length for column in CRM_COLUMNS if column.max_length}
"""Column of silver → maximum number of characters, as declared in sql_scripts/silver/apply_silver_types.sql."""

SOURCE_ROW = "_source_row"
"""Column with the line of the file on which a row starts. It links a row of silver to its row of bronze."""

ROW_HASH = "_row_hash"
"""Column with the content hash of a silver row: rows with the same lead number and hash have the same content."""

CONTENT_COLUMNS = tuple(
    name
    for column in CRM_COLUMNS
    if column.is_content
    for name in (column.silver, *([APPT_TIME] if column.bronze == "APPT_DATE" else []))
)
"""The columns that `_row_hash` covers and silver.row_contents contains: what the CRM says about a lead on a day."""

CLEANED_COLUMNS = (*(column.silver for column in CRM_COLUMNS if not column.is_content), *CONTENT_COLUMNS)
"""The columns of silver.stg_csv_snapshots that come from the CRM."""

SILVER_COLUMNS = (*CLEANED_COLUMNS, "_extraction_date", "_partition_date", SOURCE_ROW)
"""The columns of silver.stg_csv_snapshots, except `_row_hash`."""

TRIMMED_IN_GOLD = {
    column.silver for column in CRM_COLUMNS if not (column.rule or column.silver in ("email_hash", "phone_hash"))
}
"""The columns that gold trims, because silver keeps the blanks around their values. Hashes stay as they are; matching
compares them trimmed (`silver.match_key`)."""

GOLD_COLUMNS = tuple(column.silver for column in CRM_COLUMNS if column.is_content and column.is_in_gold)
"""The content columns of the CRM that gold contains under the same name."""
