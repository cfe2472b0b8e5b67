"""Answer questions about silver and the quality of the source data, for silver_EDA.ipynb and the report."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pandas as pd

from etl.reporting.answers import NULL_SHARES, ROWS, Anomalies, Answer, ranges, sound
from etl.reporting.reading import Read
from etl.reporting.words import counted, day, share


def analyse_silver(read: Read) -> dict[str, Answer]:
    """Answer the questions of silver_EDA.ipynb. Returns name of the question → answer."""
    filled, anomalies = read("filled_cells_per_day"), Anomalies(read("data_anomalies"))
    distinct = distinct_values(read("distinct_values"), read("column_types"), filled)
    return {
        "rows_per_day": rows_per_day(read("rows_per_day"), anomalies),
        "null_shares": anomalies.mark(null_shares(filled), NULL_SHARES),
        "distinct_values": anomalies.mark(distinct, NULL_SHARES),
        "duplicate_keys": anomalies.mark(duplicate_keys(read("duplicate_keys")), ROWS),
        "rejected_rows": anomalies.mark(rejected_rows(read("rejected_rows")), ROWS),
    }


def rows_per_day(rows: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how many rows each day has.

    Rows: `_partition_date row_count lead_number_count rejected_count`, one per snapshot day: rows and distinct lead
    numbers in silver, and rejected rows.
    """
    question = "How many rows does each day have?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    sound_days = sound(rows, anomalies.days(ROWS))
    left_out = len(rows) - len(sound_days)
    average = (rows if sound_days.empty else sound_days)["row_count"].mean()
    without = f" (without {counted(left_out, 'affected day')})" if left_out and len(sound_days) else ""
    fewest, most = rows.iloc[rows["row_count"].argmin()], rows.iloc[rows["row_count"].argmax()]
    sentence = (
        f"{counted(len(rows), 'day')} of {average:,.0f} rows on average{without}, from {fewest['row_count']:,} "
        f"({day(fewest['_partition_date'])}) to {most['row_count']:,} ({day(most['_partition_date'])})"
        if len(rows) > 1
        else f"1 day of {counted(most['row_count'], 'row')}"
    )
    sentence += f"; {counted(rows['rejected_count'].sum(), 'row')} rejected."
    return anomalies.mark(Answer(question, rows, sentence), ROWS)


def null_shares(filled: pd.DataFrame) -> Answer:
    """Answer which columns have no value, and on which days.

    Rows: the share of rows without a value, 0 to 1, with one row per column of silver (the index) and one column per
    snapshot day.
    """
    counts = filled.set_index("_partition_date")
    shares = 1 - counts.drop(columns="row_count").div(counts["row_count"], axis=0)
    table = shares.T.rename_axis(index="column", columns=None)
    question = "Which columns have no value, and when?"
    if table.empty:
        return Answer(question, table, "There is no snapshot yet.")
    is_filled = table < 1
    on_some_days = is_filled.any(axis=1) & ~is_filled.all(axis=1)
    appears = [
        f"{name} (first on {day(pd.Timestamp(first))})"
        for name, first in is_filled[on_some_days].idxmax(axis=1).items()
    ]
    overall = 1 - counts.drop(columns="row_count").sum() / counts["row_count"].sum()
    emptiest = overall.sort_values(ascending=False)
    return Answer(
        question,
        table,
        f"{emptiest.index[0]} is empty most often ({share(emptiest.iloc[0], 1)} of all rows); "
        f"{(overall == 0).sum()} of {len(overall)} columns always have a value."
        + (f" Filled on some days only: {', '.join(appears)}." if appears else ""),
    )


def distinct_values(distinct: pd.DataFrame, types: pd.DataFrame, filled: pd.DataFrame) -> Answer:
    """Answer which types and how many distinct values the columns have.

    Rows: `column_name type_name null_share distinct_count`, one per column of silver.stg_csv_snapshots whose distinct
    values are counted. `null_share` is from 0 to 1.
    """
    cells = filled.drop(columns="_partition_date").sum()
    table = types.assign(
        null_share=types["column_name"].map(1 - cells / max(cells["row_count"], 1)),
        distinct_count=types["column_name"].map(distinct.iloc[0]),
    )
    table = table.dropna(subset="distinct_count").astype({"distinct_count": int}).reset_index(drop=True)
    most = table.iloc[table["distinct_count"].argmax()]
    return Answer(
        "Which types and values do the columns have?",
        table,
        f"{most['column_name']} has the most distinct values: {most['distinct_count']:,} in "
        f"{counted(cells['row_count'], 'row')}.",
    )


def duplicate_keys(rows: pd.DataFrame) -> Answer:
    """Answer which ids and hashes occur in more than one row.

    Rows: `kind value_count duplicated_value_count row_count`, one per kind of id or hash. `row_count` is the number of
    rows with a duplicated value.
    """
    doubled = rows[rows["duplicated_value_count"] > 0]
    named = ", ".join(
        f"{kind} ({count:,})" for kind, count in zip(doubled["kind"], doubled["duplicated_value_count"], strict=True)
    )
    return Answer(
        "Which ids and hashes occur in more than one row?",
        rows,
        f"Values that occur in more than one row: {named}."
        if named
        else "No lead number occurs twice on a day, and no id or hash belongs to two backend leads.",
    )


def rejected_rows(rows: pd.DataFrame) -> Answer:
    """Answer which rows were rejected, and why.

    Rows: `reason step row_count file_count first_day last_day`, one per reason and step, the most frequent first. The
    days are NULL for rows of the leads parquet.
    """
    total = int(rows["row_count"].sum())
    return Answer(
        "What was rejected, and why?",
        rows,
        f"{counted(total, 'row')} rejected, most often because: {rows['reason'].iloc[0]} "
        f"({rows['row_count'].iloc[0]:,})."
        if total
        else "No row is rejected.",
    )


def header_drift(headers: dict[date, list[str]]) -> Answer:
    """Answer on which days the header of the files changed.

    Rows: `day`, `added`, `missing`, `order changed`, one per file whose header differs from that of the file before.

    Args:
        headers: day → the columns of its file, in the file's order.
    """
    found = []
    days = sorted(headers)
    for before, after in pairwise(days):
        old, new = headers[before], headers[after]
        added = [name for name in new if name not in old]
        missing = [name for name in old if name not in new]
        moved = [name for name in new if name in old] != [name for name in old if name in new]
        if added or missing or moved:
            found.append((after, ", ".join(added), ", ".join(missing), "yes" if moved else ""))
    table = pd.DataFrame(found, columns=["day", "added", "missing", "order changed"])
    changed = ", ".join(day(row_day) for row_day in table["day"])
    return Answer(
        "When did the files' header change?",
        table,
        f"The header differs from that of the previous file in {len(table)} of {counted(len(days), 'file')}: {changed}."
        if found
        else f"No change in the headers of {counted(len(days), 'file')}.",
    )


_FLAGS = {"is_set": ("Set", "never 1"), "is_demo": ("Demo", "never 1")}
"""Counter of the rows in which a flag is set → column of the flag, and text for days on which this counter is 0. Leads
are graded by these flags, so their quality would seem to fall on such days."""


def source_drift(filled: pd.DataFrame, unknown: pd.DataFrame) -> Answer:
    """Answer how the contents of the files drifted.

    Rows: `column_name what days`, one per column that is empty on some days only, per flag that is 1 in no row on some
    days only, and per column that bronze does not have. `what` is "empty", "never 1" or "unknown".

    Args:
        filled: one row per day: the number of cells with a value in each column; in `is_set` and `is_demo`, the number
            of rows in which the flag is set.
        unknown: the columns that bronze does not have, one row per day and column.
    """
    counts = filled.set_index("_partition_date").drop(columns="row_count")
    found = []
    for name in counts.columns:
        column, what = _FLAGS.get(str(name), (str(name), "empty"))
        # A flag without any value is empty.
        days = counts.index[(counts[name] == 0) & ((what == "empty") | (counts[column] > 0))]
        if len(days) and counts[name].any():
            found.append((column, what, ranges(list(days))))
    found += [(str(name), "unknown", ranges(days)) for name, days in unknown.groupby("column_name")["_partition_date"]]
    table = pd.DataFrame(found, columns=["column_name", "what", "days"])
    drifted = ", ".join(f"{name} ({what})" for name, what, _ in found)
    return Answer(
        "How did the files drift?",
        table,
        f"{counted(table['column_name'].nunique(), 'column')} drifted: {drifted}."
        if found
        else "No column drifted: none is unknown, and none is empty on only some days.",
    )
