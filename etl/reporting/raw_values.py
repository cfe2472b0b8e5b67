"""Read the rows of bronze behind row versions, and compare them with the cleaned values.

Do not import pandas here: the import takes as long as the rest of `--explain`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.columns import APPT_TIME, BRONZE_COLUMNS, CRM_COLUMNS, NA_VALUES, ROW_HASH, SILVER_COLUMNS, SOURCE_ROW
from etl.utils.utils_connection import PROJECT
from etl.warehouse.sql_scripts import query_dicts, quote_identifiers, script_text


@dataclass(frozen=True)
class CleanedValue:
    """A value that cleaning changed."""

    column: str
    """Name of the column in silver."""
    raw: str | None
    """Text in the file; None if the cell is empty."""
    cleaned: str | None
    """Value in silver as text; None for NULL."""
    rule: str
    """Name of the cleaning rule (see `rules`)."""


@dataclass(frozen=True)
class BronzeRow:
    """A row of bronze.csv_snapshots, and what cleaning changed in it."""

    file: str
    """S3 key of the file."""
    line: int
    day: date
    same_content: int = 0
    """Number of further rows of the day with the same content."""
    cleaned: Sequence[CleanedValue] = ()
    """The values that cleaning changed, in the order of CRM_COLUMNS."""


BronzeRows = dict[tuple[date, int], BronzeRow]
"""Day and `_row_hash` → the first row of bronze on that day with this content."""

NA, BLANKS, STATE_OF_LOCATION = "NA_VALUES", "surrounding blanks", "state_of"


@cache
def rules() -> dict[str, str]:
    """Return name of a cleaning rule → what it does. Most texts are docstring summaries of etl/utils/cell_rules.py."""
    module = ast.parse((PROJECT / "etl" / "utils" / "cell_rules.py").read_text("utf-8"))
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef))
    return {
        NA: f"A text that stands for a missing value becomes NULL: blanks, {', '.join(NA_VALUES[1:])}.",
        BLANKS: "Blanks around numbers, flags, codes, dates and locations are removed.",
    } | {rule.name: " ".join((ast.get_docstring(rule) or "").partition("\n\n")[0].split()) for rule in functions}


def may_read_bronze(db: Cursor) -> bool:
    """Return whether the role may read bronze.csv_snapshots and meta.table_loads, the load ledger."""
    db.execute(
        "select bool_and(has_schema_privilege(relnamespace, 'usage') and has_table_privilege(pg_class.oid, 'select')) "
        "from pg_class where relname = 'csv_snapshots' and relnamespace = to_regnamespace('bronze') "
        "or relname = 'table_loads' and relnamespace = to_regnamespace('meta')"
    )
    return db.fetchone() == (True,)


def read_bronze_rows(db: Cursor, versions: Sequence[Mapping[str, Any]]) -> BronzeRows:
    """Return the rows of bronze from which row versions were built, for the first and the last day of each version.

    Rows that cannot be traced are left out, for example while silver is older than bronze.

    Args:
        versions: rows with `_row_hash`, `valid_from` and `last_day`.
    """
    query = script_text(
        "explain/silver_rows.sql",
        columns=quote_identifiers(SILVER_COLUMNS),
        days=sql.Literal(sorted({row[day] for row in versions for day in ("valid_from", "last_day")})),
        hashes=sql.Literal(sorted({row[ROW_HASH] for row in versions})),
    )
    by_day: dict[date, list[dict[str, Any]]] = {}
    for row in query_dicts(db, query):
        by_day.setdefault(row["_partition_date"], []).append(row)
    rows: BronzeRows = {}
    for day, cleaned in by_day.items():
        query = script_text(
            "explain/bronze_rows.sql",
            columns=quote_identifiers(BRONZE_COLUMNS),
            day=sql.Literal(str(day)),
            lines=sql.Literal([row[SOURCE_ROW] for row in cleaned]),
        )
        raw_rows = {row[SOURCE_ROW]: row for row in query_dicts(db, query)}
        for clean in cleaned:
            if raw := raw_rows.get(clean[SOURCE_ROW]):
                rows[day, clean[ROW_HASH]] = BronzeRow(
                    raw["_source_file"], raw[SOURCE_ROW], day, clean["same_content"], changed_values(raw, clean)
                )
    return rows


def changed_values(raw: Mapping[str, Any], clean: Mapping[str, Any]) -> list[CleanedValue]:
    """Return the values that cleaning changed between a row of bronze and the row of silver that was built from it.

    `appt_date` and `appt_time` are compared with APPT_DATE. Integers such as `007` count as unchanged.

    Args:
        raw: column of bronze → text.
        clean: column of silver → value.
    """
    changed = []
    for column in CRM_COLUMNS:
        before, after = raw[column.bronze], _text(clean[column.silver])
        if column.bronze == "APPT_DATE" and after:
            after = " ".join(filter(None, (after, _text(clean[APPT_TIME]))))
        if before != after and not _is_number(before, clean[column.silver]):
            bare = (before or "").strip()
            if column.bronze == "STATE" and after and after != bare:
                rule = STATE_OF_LOCATION
            elif after is None and bare in NA_VALUES:
                rule = NA
            else:
                rule = BLANKS if after == bare or not column.rule else column.rule
            changed.append(CleanedValue(column.silver, before, after, rule))
    return changed


def _is_number(text: str | None, value: Any) -> bool:
    """Return whether the text is an integer: only the cast of PostgreSQL can have changed it, like `007` to 7."""
    return isinstance(value, int) and text is not None and text.isascii() and text.lstrip("+-").isdigit()


def _text(value: Any) -> str | None:
    """Return a value of silver as text. A timestamp becomes its date."""
    if isinstance(value, datetime):
        value = value.date()
    return None if value is None else str(value)
