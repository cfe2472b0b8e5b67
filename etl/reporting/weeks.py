"""Compare the last seven days with the seven days before them."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import pandas as pd

from etl.reporting.answers import DEMOS, FUNNEL, MATCHES, QUALITY, SALES, Anomalies, Answer
from etl.reporting.outcomes import QUANTILE_OF_95_PERCENT, UNCLEAR
from etl.reporting.words import counted, day

FIGURES: dict[str, tuple[str, Sequence[str]]] = {
    "new leads": ("new_count", MATCHES),
    "leads that left": ("left_count", MATCHES),
    "appointments": ("appointment_count", FUNNEL),
    "demos": ("demo_count", DEMOS),
    "sales": ("sale_count", SALES),
    "high quality for the first time": ("high_quality_count", QUALITY),
}
"""Figure → its column in the query result, and the metrics of gold.daily_metrics that it depends on."""
MORE, FEWER, NOT_COMPARED = "more", "fewer", "not compared because of affected days"


def week_on_week(rows: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Compare each figure of the last seven days with the seven days before them.

    Rows: `figure last_7_days per_day 7_days_before per_day_before change_rate comparison`, one per figure; none if one
    of the two periods has no snapshot that can be compared with a previous one. `per_day` is the count divided by the
    days that the snapshots cover. `change_rate` is the change relative to `per_day_before`; NaN if affected days
    prevent a comparison, or `per_day_before` is 0. `comparison` is one of MORE, FEWER, UNCLEAR and NOT_COMPARED.

    Args:
        rows: one row per seven days, counted back from the latest snapshot, the latest first.
    """
    question = "How does the last week compare with the one before?"
    if (
        len(rows) < 2
        or not rows["covered_days"].iloc[1]
        or (rows["last_day"].iloc[0] - rows["last_day"].iloc[1]).days > 7
    ):
        return Answer(
            question,
            rows.head(0),
            "A comparison requires snapshots in both of the last two weeks, besides the first snapshot.",
        )
    latest, before = rows.iloc[0], rows.iloc[1]
    table = pd.DataFrame([_compared(figure, latest, before, anomalies) for figure in FIGURES])
    sentence = f"The 7 days to {day(latest['last_day'])}, compared with the 7 days before: {_changes(table)}."
    if (latest["covered_days"], before["covered_days"]) != (7, 7):
        covered = " and ".join(counted(week["covered_days"], "day") for week in (latest, before))
        sentence += f" A snapshot shows what has changed since the previous one: the figures cover {covered}."
    metrics = [metric for _, used in FIGURES.values() for metric in used]
    return anomalies.mark(Answer(question, table, sentence), metrics)


def _compared(figure: str, latest: pd.Series, before: pd.Series, anomalies: Anomalies) -> dict[str, Any]:
    column, metrics = FIGURES[figure]
    counts, days = (latest[column], before[column]), (latest["covered_days"], before["covered_days"])
    per_day, per_day_before = counts[0] / days[0], counts[1] / days[1]
    # The snapshot before these weeks counts, too: changes that a broken flag or an incomplete file hid in it appear in
    # the next one.
    first_day = before["previous_snapshot"]
    is_affected = any(first_day <= moment <= latest["last_day"] for moment in anomalies.days(metrics))
    deviation = QUANTILE_OF_95_PERCENT * sqrt(counts[0] / days[0] ** 2 + counts[1] / days[1] ** 2)
    continuity = 0.5 / days[0] + 0.5 / days[1]  # counts are whole numbers: matters if they are small
    change = per_day / per_day_before - 1 if per_day_before and not is_affected else None
    return {
        "figure": figure,
        "last_7_days": counts[0],
        "per_day": per_day,
        "7_days_before": counts[1],
        "per_day_before": per_day_before,
        "change_rate": change,
        "comparison": NOT_COMPARED
        if is_affected
        else UNCLEAR
        if abs(per_day - per_day_before) <= deviation + continuity
        else MORE
        if per_day > per_day_before
        else FEWER,
    }


def _changes(table: pd.DataFrame) -> str:
    """Describe the comparisons. Differences that are larger than chance explains (95 %, Poisson) come first."""
    clear = [
        f"{row['comparison']} {row['figure']} ({row['per_day']:.1f} a day after {row['per_day_before']:.1f})"
        for row in table.to_dict("records")
        if row["comparison"] in (MORE, FEWER)
    ]
    others = {
        comparison: ", ".join(table["figure"][table["comparison"] == comparison])
        for comparison in (UNCLEAR, NOT_COMPARED)
    }
    return "; ".join([*clear, *(f"{comparison} ({figures})" for comparison, figures in others.items() if figures)])
