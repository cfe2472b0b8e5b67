"""Write silver.rejected_rows: the records that could not be loaded, each with its reason."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.columns import BLANK_ROW, FOOTER
from etl.utils.day import Day
from etl.utils.errors import shorten
from etl.utils.s3_source import SnapshotFile
from etl.warehouse.sql_scripts import quote_identifier, table_exists
from etl.warehouse.tables import REJECTED_ROWS, staging_rejected_table

if TYPE_CHECKING:
    import pandas as pd

    from etl.utils.csv_reader import RejectedLine

log = logging.getLogger(__name__)

MOST_FOOTERS = 10
"""Maximum number of totals and footers in a file. If a file has more, MAX_REJECT_RATIO applies to all of them."""


def add_rejected(db: Cursor, rejected: pd.DataFrame, *, step: int, run_id: str, table: str = REJECTED_ROWS) -> None:
    """Insert the rejected rows of a step into silver.rejected_rows, or another table with its columns.

    Args:
        rejected: `_source_file _source_row _partition_date reason raw_row` (see `transform.CleanSnapshots`).
    """
    from etl.warehouse.bulk_copy import copy_from_frame

    if len(rejected):
        copy_from_frame(db, table, rejected.assign(run_id=run_id, step=step))


def delete_rejected(db: Cursor, day: Day | None, step: int) -> None:
    """Delete the rejected rows of a step for a day, or for the leads (`day` None)."""
    db.execute(
        # `is not distinct from` could not use the index
        "delete from silver.rejected_rows where step = %(step)s "
        "and (_partition_date = %(day)s or %(day)s::date is null and _partition_date is null)",
        {"day": day.date if day else None, "step": step},
    )


def rejected_lines_frame(lines: Sequence[RejectedLine], source_file: str, day: Day | None) -> pd.DataFrame:
    """Return rejected lines of a file as rows for silver.rejected_rows; `raw_row` is the JSON `{"line": text}`."""
    import pandas as pd

    return pd.DataFrame(
        {
            "_source_file": source_file,
            "_source_row": [line.line for line in lines],
            "_partition_date": str(day) if day else None,
            "reason": [line.reason for line in lines],
            # jsonb cannot contain NUL: replace it by its Unicode symbol
            "raw_row": [json.dumps({"line": line.text.replace("\0", "\u2400")}, ensure_ascii=False) for line in lines],
        }
    )


def stage_rejected(db: Cursor, lines: Sequence[RejectedLine], file: SnapshotFile, run_id: str) -> None:
    """Write the rejected lines of a file to a staging table, for `publish_rejected` once the file is accepted.

    A staging table of an earlier attempt is dropped. If no line was rejected, no table is created.
    """
    table = staging_rejected_table(file.day)
    names = quote_identifier(table), quote_identifier(REJECTED_ROWS)
    db.execute(sql.SQL("drop table if exists {}").format(*names))
    if lines:
        db.execute(sql.SQL("create table {} (like {} including defaults)").format(*names))
        add_rejected(db, rejected_lines_frame(lines, file.key, file.day), step=2, run_id=run_id, table=table)


def publish_rejected(db: Cursor, day: Day) -> None:
    """Replace step 2's rejected lines of a day in silver.rejected_rows with those that `stage_rejected` wrote."""
    delete_rejected(db, day, step=2)
    table = staging_rejected_table(day)
    if table_exists(db, table):
        db.execute(sql.SQL("insert into {} select * from {}").format(*map(quote_identifier, (REJECTED_ROWS, table))))


def warn_of_rejected(source: str, reasons: Counter[str]) -> None:
    """Log a warning with the rejected rows of a file or day by reason, without blank rows and a few footers."""
    usual = {BLANK_ROW, FOOTER} if reasons[FOOTER] <= MOST_FOOTERS else {BLANK_ROW}
    reasons = Counter({reason: count for reason, count in reasons.items() if reason not in usual})
    if reasons:
        described = describe_reasons(reasons)
        log.warning("%s: %d rejected, see silver.rejected_rows: %s", source, reasons.total(), described)


def describe_reasons(reasons: Counter[str]) -> str:
    """Return the three most frequent reasons with their counts as text."""
    counts = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(3))
    return f"{counts}, …" if len(reasons) > 3 else counts


def describe_first(lines: Sequence[RejectedLine], invalid: pd.DataFrame) -> str:
    """Return the first rejected line, preferably no blank row or footer, else the first invalid row, with its reason.

    A row is shown without its NULL cells, invalid values first, and is cut after 300 characters.
    """
    if lines := sorted(lines, key=lambda line: line.reason in {BLANK_ROW, FOOTER}):
        return f"line {lines[0].line}, {lines[0].reason}: {shorten(lines[0].text)}"
    if invalid.empty:
        return ""
    row = invalid.iloc[0]
    cells = {name: value for name, value in json.loads(row["raw_row"]).items() if value is not None}
    invalid_first = sorted(cells, key=lambda name: name.lower() not in row["reason"].lower())
    values = ", ".join(f"{name} {shorten(cells[name])}" for name in invalid_first)
    return f"line {row['_source_row']}, {row['reason']}: {values[:300]}{'…' * (len(values) > 300)}"
