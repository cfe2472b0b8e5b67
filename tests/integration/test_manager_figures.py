"""Figures on weeks, cohorts, stages, groups and suspect matches, on sample and real files, against pandas.

pandas reads the rows of gold's tables; the queries under test read its views.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from servers import running_postgres

from etl.local.demo import demo_settings
from etl.reporting.analysis import analyse_gold
from etl.reporting.answers import Answer
from etl.reporting.reading import reading
from etl.utils.utils_connection import postgres_engine

if TYPE_CHECKING:
    from conftest import Demo

DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Figures:
    """Answers, and what they are checked against."""

    name: str
    gold: dict[str, Answer]
    rows: pd.DataFrame
    """gold.lead_quality_matching, without rows that match no lead; `appointment`, `demo`, `sale`: stage reached."""
    now: pd.DataFrame
    """gold.lead_quality_current, with `first_seen` and `last_seen` from `rows`; stages as above."""
    checks: list[str]

    @property
    def days(self) -> pd.Series:
        return pd.Series(sorted(self.rows["_partition_date"].unique()))

    @property
    def covered(self) -> pd.Series:
        """Snapshot → days since the one before."""
        return pd.Series(self.days.diff().dt.days.to_numpy(), index=self.days)


def with_stages(rows: pd.DataFrame) -> pd.DataFrame:
    sale = rows["dispo"].eq("Sale")
    demo = rows["demo"].eq(1) | sale
    return rows.assign(appointment=rows["set"].eq(1) | rows["appt_date"].notna() | demo, demo_given=demo, sale=sale)


@pytest.fixture(scope="module", params=["sample", "real"])
def figures(demo: Demo, request: pytest.FixtureRequest) -> Figures:
    options = ["--data", str(request.getfixturevalue("real_data"))] if request.param == "real" else []
    done = demo.run(*options)
    assert done.returncode == 0, done.stderr
    server = running_postgres(demo.folder / ".local")
    assert server is not None
    settings = demo_settings(server, "http://127.0.0.1:9")
    with reading(settings) as read:
        gold = analyse_gold(read)
    dates = {"parse_dates": ["_partition_date"]}
    with postgres_engine(settings).connect() as connection:
        rows = pd.read_sql_query("select * from gold.lead_quality_matching", connection, **dates)
        now = pd.read_sql_query("select * from gold.lead_quality_current", connection, **dates)
        checks = pd.read_sql_query("select checks from meta.pipeline_runs order by started_at", connection)["checks"]
    rows = with_stages(rows[rows["lead_uuid"].notna()])
    seen = rows.groupby("lead_uuid")["_partition_date"].agg(first_seen="min", last_seen="max")
    return Figures(request.param, gold, rows, with_stages(now).merge(seen, on="lead_uuid"), checks.iloc[-1])


def group_of(lead: pd.Series[object]) -> str:
    dispo = str(lead["dispo"]).upper()
    names = {"DQ": "disqualified", "CXL": "cancelled", "DNC": "do not contact", "DO NOT CONTACT": "do not contact"}
    if lead["sale"]:
        return "sold"
    for prefix, name in names.items():
        if dispo.startswith(prefix):
            return name
    if lead["demo_given"]:
        return "demo without sale"
    return "appointment without demo" if lead["appointment"] else "no appointment"


def test_disposition_groups_and_leads_that_left(figures: Figures) -> None:
    groups = pd.Series([group_of(lead) for _, lead in figures.now.iterrows()], index=figures.now.index)
    left = figures.now["last_seen"] < figures.days.iloc[-1]
    expected, lost = groups.value_counts().to_dict(), groups[left].value_counts().to_dict()
    rows = figures.gold["disposition_groups"].rows
    assert dict(zip(rows["disposition_group"], rows["lead_count"], strict=True)) == expected
    rows = figures.gold["leads_that_left"].rows
    assert dict(zip(rows["disposition_group"], rows["left_count"], strict=True)) == lost
    sentence = figures.gold["leads_that_left"].sentence
    assert sentence.startswith(
        f"{left.sum():,} of {len(groups):,} leads ({100 * left.mean():.1f} %) are not in the latest"
    )
    assert f"sold ({lost['sold']})" in sentence


def test_first_weeks(figures: Figures) -> None:
    first = figures.now["first_seen"]
    monday = (first - first.dt.day_of_week * DAY).dt.strftime("%Y-%m-%d")
    monday = monday.where(first > figures.days.iloc[0], "first snapshot")
    counts = figures.now.groupby(monday)[["appointment", "sale"]].agg(["size", "sum"])
    rows = figures.gold["first_weeks"].rows.set_index("first_week")
    assert rows["lead_count"].to_dict() == counts["appointment"]["size"].to_dict()
    assert rows["appointment_count"].to_dict() == counts["appointment"]["sum"].to_dict()
    assert rows["sale_count"].to_dict() == counts["sale"]["sum"].to_dict()
    assert set(rows.index[rows["comparison"] == "few leads"]) == set(rows.index[rows["lead_count"] < 50])
    funnel = figures.gold["conversion_funnel"].rows.set_index("stage")["lead_count"]
    assert [rows[f"{name}_count"].sum() for name in ("lead", "appointment", "sale")] == list(
        funnel[["leads", "appointment", "sale"]]
    )


def first_days(figures: Figures, stage: str) -> pd.Series:
    """Lead → first day at the stage."""
    return figures.rows[figures.rows[stage]].groupby("lead_uuid")["_partition_date"].min()


def test_days_to_stage(figures: Figures) -> None:
    first = figures.now.set_index("lead_uuid")["first_seen"]
    first = first[first > figures.days.iloc[0]]
    rows = figures.gold["days_to_stage"].rows.set_index("stage")
    for stage, column in {"appointment": "appointment", "demo": "demo_given", "sale": "sale"}.items():
        reached = first_days(figures, column).reindex(first.index).dropna()
        passed = (reached - first[reached.index]).dt.days
        is_inexact = (reached.map(figures.covered) > 1) | (first[reached.index].map(figures.covered) > 1)
        row = rows.loc[stage]
        assert (row["lead_count"], row["reached_count"]) == (len(first), len(reached))
        assert (row["same_day_count"], row["within_7_days_count"]) == ((passed == 0).sum(), (passed <= 7).sum())
        assert (row["median_days"], row["inexact_count"]) == (passed.median(), is_inexact.sum())
        assert row["comparison"] == ("few leads" if len(reached) < 50 else "")


def test_week_on_week(figures: Figures) -> None:
    last = figures.days.iloc[-1]
    seen = figures.now.set_index("lead_uuid")
    left = seen["last_seen"][seen["last_seen"] < last].map(dict(zip(figures.days, figures.days.shift(-1), strict=True)))
    high_quality = figures.rows[figures.rows["lead_quality_flag"] == "High Quality"]
    events = {
        "new leads": seen["first_seen"],
        "leads that left": left,
        "appointments": first_days(figures, "appointment"),
        "demos": first_days(figures, "demo_given"),
        "sales": first_days(figures, "sale"),
        "high quality for the first time": high_quality.groupby("lead_uuid")["_partition_date"].min(),
    }
    rows = figures.gold["week_on_week"].rows.set_index("figure")
    assert list(rows.index) == list(events)
    for weeks_ago, (count, per_day) in enumerate([("last_7_days", "per_day"), ("7_days_before", "per_day_before")]):
        end = last - 7 * weeks_ago * DAY
        days = figures.days[(figures.days > end - 7 * DAY) & (figures.days <= end)]
        covered = figures.covered[days].sum()
        for name, event in events.items():
            assert rows[count][name] == event.isin(days).sum(), name
            assert rows[per_day][name] == pytest.approx(event.isin(days).sum() / covered)


def test_week_on_week_does_not_compare_affected_figures(figures: Figures) -> None:
    answer = figures.gold["week_on_week"]
    row = answer.rows.set_index("figure").loc["high quality for the first time"]
    assert row["comparison"] == "not compared because of affected days"
    assert pd.isna(row["change_rate"])
    assert "rows with Set = 1: 0.0 % on " in answer.note
    compared = answer.rows["comparison"].isin(["more", "fewer", "no clear difference"])
    assert compared.sum() == 5


def test_suspect_shares(figures: Figures) -> None:
    rows, now = figures.rows, figures.now
    clean = {kind: rows[f"{kind}_hash"].str.strip().str.lower() for kind in ("email", "phone")}
    both = set(clean["email"].dropna()) & set(clean["phone"].dropna())
    suspect = {}
    for kind, hashes in clean.items():
        shared = rows.groupby(hashes)["lead_number"].nunique()
        suspect[kind] = now[f"{kind}_hash"].str.strip().str.lower().isin(both | set(shared.index[shared >= 5]))
    is_suspect = (~now["email_match"] | suspect["email"]) & (~now["phone_match"] | suspect["phone"])
    figures_of = {
        "all leads": now["appointment"] | True,
        "high quality": now["lead_quality_flag"] == "High Quality",
        "appointment": now["appointment"],
        "demo": now["demo_given"],
        "sale": now["sale"],
    }
    shown = figures.gold["suspect_shares"].rows.set_index("figure")
    assert shown["lead_count"].to_dict() == {name: counts.sum() for name, counts in figures_of.items()}
    assert shown["suspect_count"].to_dict() == {
        name: (counts & is_suspect).sum() for name, counts in figures_of.items()
    }


def test_checks_of_the_run(figures: Figures) -> None:
    answer = figures.gold["run_checks"]
    assert list(answer.rows["finding"]) == (
        json.loads(figures.checks) if isinstance(figures.checks, str) else figures.checks
    )
    assert f"its checks found {len(answer.rows)} issue" in answer.sentence


def test_days_without_a_snapshot_are_stated(figures: Figures) -> None:
    gold, has_gaps = figures.gold, figures.name == "real"
    assert ("14 days have no snapshot: " in gold["status_changes"].sentence) == has_gaps
    assert ("Days without a snapshot make 111, 66 and 12 " in gold["days_to_stage"].sentence) == has_gaps
    assert ("the figures cover 9 days and 7 days" in gold["week_on_week"].sentence) == has_gaps
    most = "20 October 2024: 328 in the 7 days since the one before, 46.9 a day."
    assert gold["leads_per_day"].sentence.endswith(most) == has_gaps
