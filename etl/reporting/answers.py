"""Answers to the questions of the analysis, with notes on days with anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import pandas as pd

from etl.reporting.words import share
from etl.utils.day import day_ranges
from etl.warehouse.anomalies import label_of

Days = Sequence[pd.Timestamp]

# Patterns of metrics of gold.daily_metrics. An anomaly of a metric affects the figures that depend on it.
ROWS = ("rows", "repeated_lead_number_share", "rejected_share")
MATCHES = (
    *ROWS,
    "new_lead_share",
    "lost_lead_share",
    "match_*_share",
    "email_hash_null*_share",
    "phone_hash_null*_share",
    "plain_email_share",
)
FLAGS = ("set_*", "demo_*", "appt_date_without_set_share", "sale_without_demo_share")
QUALITY = (*MATCHES, *FLAGS)
SALES = (*MATCHES, "dispo_null*_share", "dispo_share: Sale")
DEMOS = (*SALES, "demo_*", "sale_without_demo_share")
FUNNEL = (*DEMOS, "set_without_appt_date_share", "appt_date_null*_share")
"""Without `set_share`: an appointment with a date counts even if `set` is 0."""
FUNNEL_PER_STATE = (*FUNNEL, "state_null*_share")
OUTCOMES = (*FUNNEL, "dispo_*")
STATUS = (*MATCHES, *FLAGS, "appt_date_*", "dispo_*", "job_status_*", "status_change_share")
NULL_SHARES = ("*_null_share", "*_nulled_share")


class Answer(NamedTuple):
    """The answer to a question: rows, a sentence, and a note on the days that should not be trusted."""

    question: str
    rows: pd.DataFrame
    sentence: str
    note: str = ""
    """Anomalies of the affected days and, in the answer `data_anomalies`, days on which a flag is never 1; or empty."""
    affected_days: Days = ()
    """Sorted days with an anomaly of a metric on which the answer depends."""

    @property
    def notice(self) -> str:
        """The note, with advice, as the report and the notebooks show it after `Note:`; empty if there is no note."""
        return f"{self.note}. Do not trust figures that depend on these values." if self.note else ""


class Anomalies:
    """Rows of gold.data_anomalies: one per day and metric with an anomaly."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows[["_partition_date", "metric", "observed", "expected"]]

    def days(self, metrics: Sequence[str]) -> list[pd.Timestamp]:
        """Return the sorted days on which any of the metrics has an anomaly. Metrics may contain wildcards (`*`)."""
        return sorted(set(self._rows_of(metrics)["_partition_date"]))

    def note(self, metrics: Sequence[str]) -> str:
        """Return the days, observed and expected values of the metrics' anomalies as text; empty if there are none."""
        notes = []
        for metric, found in self._rows_of(metrics).sort_values("_partition_date").groupby("metric"):
            observed, expected = (_range(str(metric), found[column]) for column in ("observed", "expected"))
            days = ranges(found["_partition_date"])
            notes.append(f"{label_of(str(metric))}: {observed} on {days} (expected {expected})")
        return "; ".join(notes)

    def shown(self) -> pd.DataFrame:
        """Return the rows with observed and expected values as text: `21.1 %` for a share, `3,600` for a row count."""
        rows = self.rows.copy()
        for column in ("observed", "expected"):
            rows[column] = [
                _range(name, pd.Series([value])) for name, value in zip(rows["metric"], rows[column], strict=True)
            ]
        return rows

    def mark(self, answer: Answer, metrics: Sequence[str]) -> Answer:
        """Return the answer with the note and the affected days of these metrics, on which it depends."""
        return answer._replace(note=self.note(metrics), affected_days=self.days(metrics))

    def _rows_of(self, metrics: Sequence[str]) -> pd.DataFrame:
        is_asked = [any(fnmatchcase(name, metric) for metric in metrics) for name in self.rows["metric"]]
        return self.rows[pd.Series(is_asked, index=self.rows.index, dtype=bool)]


def ranges(days: pd.Series[pd.Timestamp] | Days) -> str:
    """Return days, which must be sorted, as text; consecutive days as a range, as in `2024-10-16 to 2024-10-22`."""
    return day_ranges([moment.date() for moment in days])


def sound(rows: pd.DataFrame, affected_days: Days) -> pd.DataFrame:
    """Return the rows of the days that are not affected."""
    return rows[~rows["_partition_date"].isin(list(affected_days))]


def missing_days(days: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the days without a snapshot between the first and the latest snapshot."""
    present = pd.DatetimeIndex(days["_partition_date"])
    return [] if present.empty else list(pd.date_range(present.min(), present.max()).difference(present))


def _range(metric: str, values: pd.Series[float]) -> str:
    shown = [f"{value:,.0f}" if metric == "rows" else share(value, 1) for value in (values.min(), values.max())]
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)
