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
