"""Answer questions about gold and the last runs. An answer consists of rows, a sentence, and a note on anomalies.

The notebooks and the report share the answers, so that their figures agree. Each query is a file in
sql_scripts/analysis/. `charts` draws the rows.
"""

from __future__ import annotations

import pandas as pd

from etl.reporting import daily, outcomes, runs
from etl.reporting.answers import FUNNEL, FUNNEL_PER_STATE, MATCHES, OUTCOMES, QUALITY, Anomalies, Answer, ranges, sound
from etl.reporting.reading import Read
from etl.reporting.weeks import week_on_week
from etl.reporting.words import counted, day, share
from etl.warehouse.anomalies import label_of


def analyse_gold(read: Read) -> dict[str, Answer]:
    """Answer all questions about gold and the last runs. Returns name of the question → answer.

    `charts` contains the charts under the same names; not every question has one.
    """
    days, anomalies, last_runs = read("leads_per_day"), Anomalies(read("data_anomalies")), read("last_runs")
    quality = read("lead_quality_per_day")
    per_day = daily.lead_quality_per_day(quality, days, anomalies)
    distribution, groups = read("lead_quality_distribution"), read("disposition_groups")
    states = read("conversion_funnel_per_state")
    return {
        "freshness": runs.freshness(
            read("data_freshness"), days, quality, anomalies, last_runs[last_runs["publishes"].astype(bool)]
        ),
        "data_anomalies": data_anomalies(anomalies, read("flags_at_zero"), read("accepted_changes")),
        "week_on_week": week_on_week(read("week_on_week"), anomalies),
        "match_scenarios": anomalies.mark(match_scenarios(read("match_scenarios")), MATCHES),
        "leads_per_day": daily.leads_per_day(days, anomalies),
        "lead_quality_distribution": daily.lead_quality_distribution(distribution, per_day.rows, anomalies),
        "lead_quality_per_day": per_day,
        "new_high_quality_leads_per_day": daily.new_high_quality_leads_per_day(
            read("new_high_quality_leads_per_day"), anomalies
        ),
        "conversion_funnel": anomalies.mark(outcomes.conversion_funnel(states), FUNNEL),
        "conversion_funnel_per_state": anomalies.mark(outcomes.conversion_funnel_per_state(states), FUNNEL_PER_STATE),
        "first_weeks": anomalies.mark(outcomes.first_weeks(read("first_weeks")), FUNNEL),
        "days_to_stage": anomalies.mark(outcomes.days_to_stage(read("days_to_stage"), days), FUNNEL),
        "disposition_groups": anomalies.mark(outcomes.disposition_groups(groups), OUTCOMES),
        "leads_that_left": anomalies.mark(outcomes.leads_that_left(groups), OUTCOMES),
        "status_changes": outcomes.status_changes(read("status_changes"), read("lead_lifecycle"), days, anomalies),
        "suspect_hashes": anomalies.mark(suspect_hashes(read("suspect_hashes"), read("suspect_matches")), MATCHES),
        "suspect_shares": anomalies.mark(suspect_shares(read("suspect_shares")), (*QUALITY, *FUNNEL)),
        "run_checks": runs.run_checks(last_runs),
        "refused_files": runs.refused_files(last_runs[last_runs["reads_files"].astype(bool)]),
    }


def data_anomalies(anomalies: Anomalies, flags_at_zero: pd.DataFrame, accepted: pd.DataFrame) -> Answer:
    """Answer which days should not be trusted.

    Rows: `_partition_date metric observed expected`, one per anomaly; the values are text (see `Anomalies.shown`). The
    note also lists the days of `flags_at_zero` on which the flag has no anomaly.

    Args:
        flags_at_zero: `_partition_date metric`, one row per flag and day on which no row has the value 1, if rows of
            other days have it. `metric` is `set_share` or `demo_share`.
        accepted: `metric since note`, one row per change that was accepted (see docs/observability.md).
    """
    affected, notes = anomalies.days(["*"]), [anomalies.note(["*"])]
    for metric, rows in flags_at_zero.groupby("metric", sort=False):
        days = sound(rows, anomalies.days([f"*{metric}"]))["_partition_date"]
        if len(days):
            flag = str(metric).removesuffix("_share").capitalize()
            notes.append(
                f"no row of these snapshots has {flag} = 1: {ranges(days)}; leads are graded by this flag, so their "
                "quality seems too low there"
            )
    sentence = (
        f"These days have unexpected values: {ranges(affected)}." if affected else "No unexpected values were found."
    )
    if len(accepted):
        reasons = accepted["note"].map(" ({})".format, na_action="ignore").fillna("")
        changes = accepted["metric"].map(label_of) + " since " + accepted["since"].map(day) + reasons
        sentence += f" Accepted as the new normal: {'; '.join(changes)}."
    note = "; ".join(filter(None, notes))
    return Answer("Which days should not be trusted?", anomalies.shown(), sentence, note, affected)


def match_scenarios(rows: pd.DataFrame) -> Answer:
    """Answer how snapshot rows match backend leads.

    Rows: `scenario row_count lead_count`, one per scenario, `both` first. A snapshot row that matches several leads
    counts once per lead in `row_count`.
    """
    counts = {str(name): int(count) for name, count in zip(rows["scenario"], rows["row_count"], strict=True)}
    total = sum(counts.values())
    return Answer(
        "How did snapshot rows match backend leads?",
        rows,
        f"Of {counted(total, 'row')}, {share(counts['both'], total)} match a lead on e-mail and phone, "
        f"{counts['email_only']:,} on the e-mail alone, and {counts['phone_only']:,} on the phone alone. "
        f"Rows without a lead: {counts['none']:,}."
        if total
        else "There are no rows yet.",
    )


def suspect_hashes(rows: pd.DataFrame, matches: pd.DataFrame) -> Answer:
    """Answer which hashes may cause false matches.

    Rows: `hash kind lead_number_count lead_uuid_count row_count reason`, one per hash and `kind` (`email` or `phone`),
    the most frequent first.

    Args:
        matches: one row, `row_count lead_count`: matched rows that rely on suspect hashes alone, and their leads.
    """
    falsely = matches.iloc[0]
    hashes, falsely_matched = rows["hash"].nunique(), int(falsely["row_count"])
    relies = "relies" if falsely_matched == 1 else "rely"
    return Answer(
        "Which hashes may cause false matches?",
        rows,
        f"Suspect: {counted(hashes, 'hash', 'hashes')}. {counted(falsely_matched, 'match', 'matches')} of "
        f"{counted(falsely['lead_count'], 'lead')} {relies} on suspect hashes alone."
        if hashes
        else "No hash is suspect.",
    )


def suspect_shares(rows: pd.DataFrame) -> Answer:
    """Answer how many of the leads that each KPI counts match by suspect hashes alone in their latest row.

    Rows: `figure lead_count suspect_count suspect_share`, one per KPI that counts any lead, all leads first.
    `suspect_share` is `suspect_count / lead_count`, from 0 to 1.
    """
    question = "How much relies on suspect matches?"
    if rows.empty:
        return Answer(question, rows, "No lead is graded yet.")
    counts = [
        f"{figure} {suspect:,} of {leads:,}"
        for figure, leads, suspect in zip(rows["figure"], rows["lead_count"], rows["suspect_count"], strict=True)
    ]
    first = rows.iloc[0]
    return Answer(
        question,
        rows,
        f"{share(first['suspect_count'], first['lead_count'])} of leads match by suspect hashes alone in their latest "
        f"row: {', '.join(counts)}.",
    )
