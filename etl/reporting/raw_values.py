"""The rows of bronze that became row versions, and what cleaning changed in them.

Silver does not say which line of a file a row came from. The candidates of bronze are cleaned again by the pipeline's
own `clean_csv`, and `_row_hash` tells which of them is a row of the version. Rules are named after their functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from psycopg2 import sql

from etl.utils import cell_rules, transform
from etl.utils.columns import APPT_TIME, BRONZE_COLUMNS, CRM_COLUMNS, ROW_HASH
from etl.utils.frames import TEXT
from etl.warehouse.sql_scripts import run_sql
from etl.warehouse.tables import LEAD_NUMBER_KEY

if TYPE_CHECKING:
    from datetime import date

    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one


@dataclass(frozen=True)
class CleanedValue:
    """A value that cleaning changed."""

    column: str
    """Name in silver."""
    raw: str | None
    """Text in the file; None for an empty cell."""
    cleaned: str | None
    rule: str
    """Name of the rule, see `RULES`."""


@dataclass(frozen=True)
class BronzeRow:
    """A row of bronze.csv_snapshots."""

    file: str
    line: int
    day: date
    same_content: int = 0
    """Number of further rows of the day with the same content."""
    cleaned: Sequence[CleanedValue] = ()
    """Values that cleaning changed, in the order of silver's columns."""


BronzeRows = dict[tuple["date", int], BronzeRow]
"""Day and `_row_hash` → the first row with that content."""

NA, BLANKS = "NA_VALUES", "surrounding blanks"
RULES = {
    NA: f"A text that stands for a missing value becomes NULL: blanks, {', '.join(transform.NA_VALUES[1:])}.",
    BLANKS: "Blanks around numbers, codes, dates and locations are removed.",
} | {
    rule.__name__: " ".join((inspect.getdoc(rule) or "").partition("\n\n")[0].split())
    for rule in (*cell_rules.RULES.values(), cell_rules.state_of, cell_rules.parse_timestamp)
}
"""Name of a rule → what it does, in the words of etl/utils/cell_rules.py."""


def may_read_bronze(db: Cursor) -> bool:
    """Whether the role may read bronze.csv_snapshots."""
    db.execute(
        "select has_schema_privilege(relnamespace, 'usage') and has_table_privilege(pg_class.oid, 'select') "
        "from pg_class where relname = 'csv_snapshots' and relnamespace = to_regnamespace('bronze')"
    )
    return db.fetchone() == (True,)


def read_bronze_rows(db: Cursor, versions: Sequence[Mapping[str, Any]]) -> BronzeRows:
    """Find the rows of bronze on the first and the last day of each version.

    Args:
        versions: `_row_hash lead_number email_hash phone_hash valid_from last_day`, and the content.
    """
    wanted = {(row[day], row[ROW_HASH]): row for row in versions for day in ("valid_from", "last_day")}
    rows: BronzeRows = {}
    # Nearly all lead numbers are in the file as they are in silver; comparing them needs no other form.
    for condition in (_equal_lead_number, _similar_row):
        missing = [(day, row) for (day, row_hash), row in wanted.items() if (day, row_hash) not in rows]
        if missing:
            days = sorted({str(day) for day, _ in missing})
            run_sql(
                db,
                "explain/snapshot_rows.sql",
                columns=sql.SQL(", ").join(map(sql.Identifier, BRONZE_COLUMNS)),
                days=sql.Literal(days),
                condition=condition([row for _, row in missing]),
            )
            rows |= _cleaned_rows(db.fetchall())
    return rows


def _equal_lead_number(versions: Sequence[Mapping[str, Any]]) -> sql.Composable:
    numbers = sorted({str(row["lead_number"]) for row in versions if row["lead_number"] is not None})
    return sql.SQL("{} = any({}::text[])").format(LEAD_NUMBER_KEY, sql.Literal(numbers))


def _similar_row(versions: Sequence[Mapping[str, Any]]) -> sql.Composable:
    """Rows that contain a lead number in another form, such as `12345.0`, or one of the hashes."""
    numbers = sorted({f"%{row['lead_number']}%" for row in versions if row["lead_number"] is not None})
    hashes = sorted({row[name] for row in versions for name in ("email_hash", "phone_hash")} - {None})
    return sql.SQL(
        '"LEADNUMBER" like any({numbers}::text[]) or email_hash = any({hashes}::text[]) '
        "or phone_hash = any({hashes}::text[])"
    ).format(numbers=sql.Literal(numbers), hashes=sql.Literal(hashes))


def _cleaned_rows(candidates: Sequence[tuple[Any, ...]]) -> BronzeRows:
    """Clean rows of bronze, and return them by day and content."""
    raw = pd.DataFrame(candidates, columns=[*BRONZE_COLUMNS, "_partition_date", "_source_file", "_source_row"])
    if raw.empty:
        return {}
    # Cleaning drops rows, and leaves this column as it is.
    raw["_extraction_date"] = [str(position) for position in range(len(raw))]
    clean = transform.clean_csv(raw.astype(TEXT)).rows
    rows: BronzeRows = {}
    befores: list[dict[Any, Any]] = raw.to_dict("records")
    for cells in clean.to_dict("records"):
        before = befores[int(cells["_extraction_date"])]
        day = pd.Timestamp(before["_partition_date"]).date()
        key = day, cells[ROW_HASH]
        if key in rows:
            rows[key] = replace(rows[key], same_content=rows[key].same_content + 1)
        else:
            line, changed = int(before["_source_row"]), changed_values(before, cells)
            rows[key] = BronzeRow(before["_source_file"], line, day, cleaned=changed)
    return rows


def changed_values(raw: Mapping[Any, Any], clean: Mapping[Any, Any]) -> list[CleanedValue]:
    """Compare a row of bronze with the row that `clean_csv` has made of it.

    Args:
        raw: columns of bronze → text.
        clean: columns of silver → text.
    """
    changed = []
    for column in CRM_COLUMNS:
        before, after = _text(raw[column.bronze]), _text(clean[column.silver])
        if column.bronze == "APPT_DATE" and after:
            after = " ".join(filter(None, (after, _text(clean[APPT_TIME]))))
        if before != after:
            changed.append(CleanedValue(column.silver, before, after, rule_of(column.bronze, before, after)))
    return changed


def rule_of(column: str, raw: str | None, cleaned: str | None) -> str:
    """Return the name of the rule that has changed a value of a column of bronze."""
    bare = (raw or "").strip()
    if column == "STATE" and cleaned and cleaned != bare:
        return cell_rules.state_of.__name__
    if cleaned is None and bare in transform.NA_VALUES:
        return NA
    if cleaned == bare:
        return BLANKS
    return cell_rules.RULES.get(column, cell_rules.parse_timestamp).__name__


def _text(cell: Any) -> str | None:
    return None if pd.isna(cell) else str(cell)
