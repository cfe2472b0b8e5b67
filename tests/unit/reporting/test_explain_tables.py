"""The header of `--explain` names the row that decides the grade of the lead, and a later row that was rejected."""

from __future__ import annotations

from datetime import date

import pytest

from etl.reporting.explain import LeadHistory
from etl.reporting.explain_tables import summary

LATEST = date(2024, 10, 21)


@pytest.mark.parametrize(
    ("number", "rejected_days", "details"),
    [
        (414135, [], "(lead number 414135)"),
        (None, [date(2024, 10, 20), LATEST, None], "(lead number NULL)"),
        (
            7,
            [LATEST, date(2024, 10, 22), None],
            "(lead number 7); a rejected row of 2024-10-22 has one of its ids: see below",
        ),
    ],
)
def test_summary_names_the_deciding_lead_number_and_a_later_rejected_row(
    number: int | None, rejected_days: list[date | None], details: str
) -> None:
    current = {"lead_quality_flag": "Low Quality", "_partition_date": LATEST, "lead_number": number}
    latest_day = max(filter(None, rejected_days), default=None)
    rejected = [{"latest_day": latest_day} for _ in rejected_days]
    assert summary(LeadHistory("lead u1", current=current, rejected_rows=rejected)) == (
        f"Low Quality in its latest snapshot, 2024-10-21 {details}"
    )


@pytest.mark.parametrize(
    ("day", "metric", "is_doubtful"),
    [
        (LATEST, "set_share", True),
        (LATEST, "demo_null_share", True),
        (LATEST, "appt_date_without_set_share", True),
        (LATEST, "sale_without_demo_share", True),
        (LATEST, "location_null_share", False),
        (date(2024, 10, 20), "set_share", False),
    ],
)
def test_summary_mentions_an_anomaly_of_a_flag_on_the_day_of_the_grade(
    day: date, metric: str, is_doubtful: bool
) -> None:
    current = {"lead_quality_flag": "Low Quality", "_partition_date": LATEST, "lead_number": 7}
    text = summary(LeadHistory("lead u1", current=current, anomalies=[{"day": day, "metric": metric}]))
    assert text.endswith("; set or demo has an anomaly on this day: see below") == is_doubtful
