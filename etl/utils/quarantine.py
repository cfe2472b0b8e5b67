"""silver.rejected_rows: the records that a file had and silver has not, with the reason. Nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.day import Day
from etl.utils.day_tables import create_text_table
from etl.utils.state import REJECTED_ROWS, staged_rejected_table
from etl.utils.transactions import table_name

if TYPE_CHECKING:
    import pandas as pd
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.extract import RejectedLine
    from etl.utils.source import SnapshotFile


def replace_rejected(db: Cursor, rejected: pd.DataFrame, *, day: Day | None, step: int, run_id: str) -> None:
    """Put the rejected rows of one step, for a day or for the leads, in place of those of the load before.

    Args:
        rejected: `_source_file _source_row _partition_date reason raw_row`, see `transform.CleanSnapshots`.
    """
    forget_rejected(db, day, step)
    add_rejected(db, rejected, step=step, run_id=run_id)


def add_rejected(db: Cursor, rejected: pd.DataFrame, *, step: int, run_id: str) -> None:
    """Enter rejected rows of one step."""
    from etl.utils.load import copy_in

    if len(rejected):
        copy_in(db, REJECTED_ROWS, rejected.assign(run_id=run_id, step=step))


def forget_rejected(db: Cursor, day: Day | None, step: int) -> None:
    """Strike out what one step has rejected of a day, or of the leads: it is loaded again."""
    db.execute(
        "delete from silver.rejected_rows where _partition_date is not distinct from %s and step = %s",
        (day.date if day else None, step),
    )


def rejected_lines_frame(lines: Sequence[RejectedLine], source_file: str, day: Day | None) -> pd.DataFrame:
    """Rejected lines of a file as rows for silver.rejected_rows: the raw row is the line's text."""
    import pandas as pd

    return pd.DataFrame(
        {
            "_source_file": source_file,
            "_source_row": [line.line for line in lines],
            "_partition_date": str(day) if day else None,
            "reason": [line.reason for line in lines],
            # jsonb holds no NUL byte: it is shown as its Unicode symbol
            "raw_row": [json.dumps({"line": line.text.replace("\0", "\u2400")}, ensure_ascii=False) for line in lines],
        }
    )


def stage_rejected(db: Cursor, lines: Sequence[RejectedLine], file: SnapshotFile) -> None:
    """Keep the rejected lines of a file aside until it is judged."""
    from etl.utils.load import copy_in

    table = staged_rejected_table(file.day)
    db.execute(sql.SQL("drop table if exists {}").format(table_name(table)))
    if lines:
        frame = rejected_lines_frame(lines, file.key, file.day)
        create_text_table(db, table, list(frame.columns))
        copy_in(db, table, frame)


def publish_rejected(db: Cursor, day: Day, run_id: str) -> None:
    """Put the staged rejected lines of an accepted file in place of those of the load before."""
    forget_rejected(db, day, step=2)
    table = staged_rejected_table(day)
    db.execute("select to_regclass(%s) is not null", (table,))
    if db.fetchone() == (True,):
        db.execute(
            sql.SQL(
                "insert into silver.rejected_rows "
                "(run_id, _source_file, _source_row, _partition_date, step, reason, raw_row) "
                "select %s, _source_file, _source_row::bigint, _partition_date::date, 2, reason, raw_row::jsonb from {}"
            ).format(table_name(table)),
            (run_id,),
        )
