"""Answer questions about each snapshot day: how many leads there are, their quality, how many become high quality.

A change in a snapshot may have happened on any day since the previous snapshot, so averages are per day.
"""

from __future__ import annotations

import pandas as pd

from etl.reporting.answers import FLAGS, MATCHES, QUALITY, Anomalies, Answer, Days, sound
from etl.reporting.words import counted, day, share


def leads_per_day(rows: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how many leads each snapshot has, and how many of them are new.

    Rows: `_partition_date total_leads new_leads cumulative_leads is_first_snapshot`, one per snapshot day.
    `cumulative_leads` is the number of leads seen so far; in the first snapshot, all leads are new.
    """
    question = "How many leads are there each day, and how many of them are new?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    last, later = rows.iloc[-1], rows.iloc[1:]
    sentence = (
        f"The snapshot of {day(last['_partition_date'])} has {counted(last['total_leads'], 'lead')}, "
        f"of {last['cumulative_leads']:,} ever seen"
    )
    new = per_day(rows, "new_leads", anomalies.days(MATCHES))
    if later.empty:
        sentence += "; it is the only one so far."
    elif new.empty:
        sentence += "; because of anomalies, the average of new leads is not known."
    else:
        sentence += f"; after the first day{_without(later, new)}, {_rate(new)} are new a day on average, {_most(new)}."
    return anomalies.mark(Answer(question, rows, sentence), MATCHES)


def lead_quality_distribution(rows: pd.DataFrame, per_day: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how many leads of each quality there are.

    Rows: `lead_quality_flag row_count lead_count current_lead_count`, one per flag, the best first. `lead_count` counts
    a lead under each flag that it ever had, `current_lead_count` under that of its latest snapshot alone.

    Args:
        per_day: the rows of the answer to `lead_quality_per_day`. If `Set` or `Demo` has an anomaly in the latest
            snapshot, the sentence adds the share of high-quality leads on the last day without one.
    """
    high, medium, _low = (int(count) for count in rows["current_lead_count"])
    total = int(rows["current_lead_count"].sum())
    before = last_sound_quality(per_day, anomalies)
    answer = Answer(
        "How good are the leads?",
        rows,
        f"Of {counted(total, 'lead')} as they are now, {high:,} ({share(high, total)}) are of high quality, with an "
        f"appointment and a demo, and {medium:,} ({share(medium, total)}) of medium quality, with an appointment alone."
        + (
            f" On the last day with sound flags ({before[0]}), {before[1]} were of high quality (of the leads in that "
            "snapshot)."
            if before
            else ""
        )
        if total
        else "No lead is graded yet.",
    )
    return anomalies.mark(answer, QUALITY)


def last_sound_quality(per_day: pd.DataFrame, anomalies: Anomalies) -> tuple[str, str] | None:
    """Return the last day without anomalies in `Set` and `Demo`, and its share of high-quality leads, both as text.

    The share is that of the leads in the snapshot. Return None if the latest snapshot has no such anomaly, if all
    snapshots have one, or if there is no snapshot.
    """
    affected = anomalies.days(FLAGS)
    if per_day.empty or per_day["_partition_date"].iloc[-1] not in affected:
        return None
    days = sound(per_day, affected)
    if days.empty:
        return None
    last = days.iloc[-1]
    return f"{last['_partition_date']:%Y-%m-%d}", share(last["High Quality"], last["total_leads"])


def lead_quality_per_day(rows: pd.DataFrame, days: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how many leads of each quality each snapshot has.

    Rows: `_partition_date`, `High Quality`, `Medium Quality`, `Low Quality` (numbers of leads) and `total_leads`, one
    per snapshot day. A lead whose rows on a day differ in quality counts under each of their flags.

    Args:
        days: the rows of `leads_per_day`, for `total_leads`.
    """
    counts = rows.pivot(index="_partition_date", columns="lead_quality_flag", values="lead_count")
    counts = counts.reindex(columns=["High Quality", "Medium Quality", "Low Quality"]).fillna(0).astype(int)
    totals = days.set_index("_partition_date")["total_leads"]
    table = counts.assign(total_leads=totals.reindex(counts.index)).reset_index().rename_axis(columns=None)
    question = "How good are the leads, day by day?"
    if table.empty:
        return Answer(question, table, "There is no snapshot yet.")
    sound_days = sound(table, anomalies.days(FLAGS))
    if sound_days.empty:
        sentence = "No snapshot has sound flags: the quality of the leads is not known."
    else:
        first, last = sound_days.iloc[0], sound_days.iloc[-1]
        is_latest = last["_partition_date"] == table["_partition_date"].iloc[-1]
        sentence = (
            f"High-quality leads were {share(first['High Quality'], first['total_leads'])} of the snapshot of "
            f"{day(first['_partition_date'])}"
        )
        if len(sound_days) > 1:
            sentence += (
                f" and {'are ' if is_latest else ''}{share(last['High Quality'], last['total_leads'])} "
                f"of that of {day(last['_partition_date'])}"
            )
        sentence += "." if is_latest else ", the last day with sound flags."
    return anomalies.mark(Answer(question, table, sentence), QUALITY)


def new_high_quality_leads_per_day(rows: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how many leads become high quality each day.

    Rows: `_partition_date new_high_quality_leads`, one per snapshot day, including days without such leads.
    """
    later = rows.iloc[1:]
    new = per_day(rows, "new_high_quality_leads", anomalies.days(QUALITY))
    total = int(new["count"].sum())
    if later.empty:
        sentence = "A trend requires two snapshots: on the first day all leads are new."
    elif new.empty:
        sentence = "Because of anomalies, it is not known how many leads became high quality after the first day."
    elif not total:
        sentence = f"After the first day{_without(later, new)}, no lead became high quality."
    else:
        sentence = (
            f"After the first day{_without(later, new)}, {counted(total, 'lead')} became high quality: "
            f"{_rate(new)} a day on average, {_most(new)}."
        )
    return anomalies.mark(Answer("How many leads become high quality each day?", rows, sentence), QUALITY)


def _without(rows: pd.DataFrame, counted_days: pd.DataFrame) -> str:
    left_out = len(rows) - len(counted_days)
    return f" (without {counted(left_out, 'day')}, because of anomalies)" if left_out else ""


def per_day(rows: pd.DataFrame, column: str, affected_days: Days) -> pd.DataFrame:
    """Return the count and the daily rate of each snapshot day, without the first day and affected days.

    The snapshot after an affected day is left out, too: its count may contain what a broken flag or a short file hid.

    Columns: `_partition_date`; `count`, the value of the column on that day; `covered_days`, the number of days since
    the previous snapshot; `rate`, `count` divided by `covered_days`.
    """
    days = rows[["_partition_date", column]].rename(columns={column: "count"})
    days["covered_days"] = days["_partition_date"].diff().dt.days
    is_affected = days["_partition_date"].isin(list(affected_days))
    days = days[~is_affected & ~is_affected.shift(fill_value=True)]
    return days.assign(rate=days["count"] / days["covered_days"])


def _rate(new: pd.DataFrame) -> str:
    return f"{new['count'].sum() / new['covered_days'].sum():.1f}"


def _most(new: pd.DataFrame) -> str:
    most = new.iloc[new["rate"].argmax()]
    text = f"and most in the snapshot of {day(most['_partition_date'])}: {most['count']:,}"
    if most["covered_days"] == 1:
        return text
    return f"{text} in the {most['covered_days']:.0f} days since the one before, {most['rate']:.1f} a day"
