"""Answer questions about the outcomes of leads: funnel, status changes, losses, departures, time to each stage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from etl.reporting.answers import FLAGS, STATUS, Anomalies, Answer, missing_days
from etl.reporting.words import counted, day, share

STAGES = {"leads": "lead", "appointment": "appointment", "demo": "demo", "sale": "sale"}
"""Stage of the funnel → prefix of its column in the query result."""
FEW_LEADS = 50
"""Minimum number of leads for a meaningful rate."""
QUANTILE_OF_95_PERCENT = 1.959964
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""
FEW, HIGHEST, UNCLEAR, LOWER, NO_STATE = "few leads", "highest", "no clear difference", "lower", ""
"""Values of the column `comparison`: too few leads to compare; how the rate compares with the highest rate; and
NO_STATE for leads without a state, which are not compared (FEW if they are fewer than FEW_LEADS)."""


def conversion_funnel(rows: pd.DataFrame) -> Answer:
    """Answer how many leads of all states reach each stage of the funnel.

    Rows: `stage lead_count of_leads of_stage_before`, one per stage. `of_leads` and `of_stage_before` are the shares of
    all leads, and of the leads of the previous stage, from 0 to 1; NaN if there are none.
    """
    counts = {stage: int(rows[f"{column}_count"].sum()) for stage, column in STAGES.items()}
    table = pd.DataFrame({"stage": list(counts), "lead_count": list(counts.values())})
    before = table["lead_count"].shift(fill_value=table["lead_count"].iloc[0])
    table["of_leads"] = table["lead_count"] / table["lead_count"].iloc[0]
    table["of_stage_before"] = table["lead_count"] / before
    leads, appointments, demos, sales = counts.values()
    return Answer(
        "Where do leads get lost?",
        table,
        f"Of {counted(leads, 'lead')}, {share(appointments, leads)} had an appointment, {share(demos, leads)} a "
        f"demo and {share(sales, leads)} a sale."
        if leads
        else "No lead is graded yet.",
    )


def conversion_funnel_per_state(rows: pd.DataFrame) -> Answer:
    """Compare the conversion rates of the states.

    Rows: `state lead_count appointment_count demo_count sale_count appointment_rate demo_rate conversion_rate
    lowest_rate highest_rate comparison`, one per state, the state with the most leads first; "unknown" for leads
    without a state. Rates are shares of `lead_count`, from 0 to 1; `conversion_rate` is that of sales. `lowest_rate`
    and `highest_rate` are the limits of its 95 % confidence interval (Wilson). `comparison` is one of FEW, HIGHEST,
    UNCLEAR, LOWER and NO_STATE.
    """
    table = rows.assign(state=rows["state"].fillna("unknown")).reset_index(drop=True)
    table["lowest_rate"], table["highest_rate"] = wilson_intervals(table["sale_count"], table["lead_count"])
    has_state = rows["state"].notna().to_numpy()
    is_few = table["lead_count"] < FEW_LEADS
    table["comparison"] = np.where(has_state | is_few, FEW, NO_STATE)
    judged = table[has_state & ~is_few]
    if len(judged):
        best = judged.iloc[judged["conversion_rate"].argmax()]
        overlaps = judged["highest_rate"] >= best["lowest_rate"]
        table.loc[judged.index, "comparison"] = np.where(overlaps, UNCLEAR, LOWER)
        if len(judged) == 1 or judged["conversion_rate"].nunique() > 1:
            table.loc[best.name, "comparison"] = HIGHEST
    return Answer("How does conversion differ between states?", table, _compare_states(table))


def _compare_states(table: pd.DataFrame) -> str:
    judged = table[~table["comparison"].isin([FEW, NO_STATE])]
    if judged.empty:
        return f"No state has {FEW_LEADS} leads yet: too few for a rate."
    best, worst = judged.iloc[judged["conversion_rate"].argmax()], judged.iloc[judged["conversion_rate"].argmin()]
    highest = share(best["sale_count"], best["lead_count"])
    if len(judged) == 1:
        return f"Only {best['state']} has at least {FEW_LEADS} leads: {highest} of them are sold."
    if HIGHEST not in set(judged["comparison"]):
        return f"All states with at least {FEW_LEADS} leads have the same share of sold leads: {highest}."
    unclear = list(judged["state"][judged["comparison"] == UNCLEAR])
    sentence = (
        f"Of the states with at least {FEW_LEADS} leads, {best['state']} has the highest share of sold leads "
        f"({highest} of {counted(best['lead_count'], 'lead')}) and "
        f"{worst['state']} the lowest ({share(worst['sale_count'], worst['lead_count'])} of {worst['lead_count']:,})"
    )
    if len(unclear) == len(judged) - 1:
        return f"{sentence}: no clear difference, the 95 % intervals overlap."
    if unclear:
        return f"{sentence}; no clear difference between {best['state']} and {', '.join(unclear)}."
    return f"{sentence}."


def wilson_intervals(successes: pd.Series, trials: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the lower and upper limits of the 95 % confidence intervals of shares (Wilson). Trials are at least 1."""
    trials = trials.astype(float)
    part, squared = successes.astype(float) / trials, QUANTILE_OF_95_PERCENT**2
    centre = (part + squared / (2 * trials)) / (1 + squared / trials)
    spread = np.sqrt(part * (1 - part) / trials + squared / (4 * trials**2)) / (1 + squared / trials)
    low, high = centre - QUANTILE_OF_95_PERCENT * spread, centre + QUANTILE_OF_95_PERCENT * spread
    return low.clip(0, part), high.clip(part, 1)  # rounding must not move a limit past the share


def status_changes(rows: pd.DataFrame, lifecycle: pd.DataFrame, days: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Answer how the status of leads changes.

    Rows: `dispo_before dispo change_count lead_count`, one per pair of dispositions, the most frequent change first.
    A missing disposition is shown as `(none)`. Changes that only a broken `set` or `demo` causes are not counted,
    because gold.status_changes omits them.

    Args:
        rows: changes of disposition in gold.status_changes, counted per pair of dispositions.
        lifecycle: one row, `lead_count changed_lead_count change_count median_days`: number of leads, of leads with a
            change, and of changes; median days that a status lasted before a change, at most since the first snapshot.
        days: the rows of `leads_per_day`.
    """
    named = rows.assign(dispo_before=rows["dispo_before"].fillna("(none)"), dispo=rows["dispo"].fillna("(none)"))
    life = lifecycle.iloc[0]
    question = "What becomes of a lead?"
    if not life["change_count"]:
        return anomalies.mark(Answer(question, named, "No lead has changed its status yet."), STATUS)
    sentence = (
        f"Of {counted(life['lead_count'], 'lead')}, {life['changed_lead_count']:,.0f} "
        f"({share(life['changed_lead_count'], life['lead_count'])}) changed their status at least once; a status that "
        f"ended had lasted {counted(life['median_days'], 'day')} (median, counted from the first snapshot at the "
        "earliest)."
    )
    if not named.empty:
        most = named.iloc[0]
        sentence += (
            f" The most frequent change of disposition is from {most['dispo_before']} to {most['dispo']}: "
            f"{counted(most['change_count'], 'time')}."
        )
    if anomalies.days(FLAGS):
        sentence += " Changes that only a broken flag causes are not counted."
    if missing := len(missing_days(days)):
        what, when = ("day has", "that day") if missing == 1 else ("days have", "those days")
        sentence += f" {missing:,} {what} no snapshot: changes on {when} appear in the next snapshot."
    return anomalies.mark(Answer(question, named, sentence), STATUS)


def disposition_groups(rows: pd.DataFrame) -> Answer:
    """Answer why leads are lost, by disposition group.

    Rows: `disposition_group lead_count lead_share`, one per group, the largest first. `lead_share` is the share of all
    leads, from 0 to 1.
    """
    table = rows[["disposition_group", "lead_count"]].assign(lead_share=rows["lead_count"] / rows["lead_count"].sum())
    counts = dict(zip(table["disposition_group"], table["lead_count"], strict=True))
    total = sum(counts.values())
    lost = [f"{group} ({share(count, total)})" for group, count in counts.items() if group not in ("sold", NOTHING_YET)]
    return Answer(
        "Why are leads lost?",
        table,
        f"Of {counted(total, 'lead')}, {share(counts.get('sold', 0), total)} are sold, and "
        f"{share(counts.get(NOTHING_YET, 0), total)} have no appointment and no other outcome. The others: "
        f"{', '.join(lost) or 'none'}."
        if total
        else "No lead is graded yet.",
    )


NOTHING_YET = "no appointment"


def leads_that_left(rows: pd.DataFrame) -> Answer:
    """Answer what became of the leads that are not in the latest snapshot, by disposition group.

    Rows: `disposition_group left_count lead_count left_share`, one per group, the greatest `left_count` first.
    `left_share` is `left_count / lead_count`, from 0 to 1.

    Args:
        rows: the same query result as for `disposition_groups`.
    """
    table = rows[["disposition_group", "left_count", "lead_count"]].sort_values("left_count", ascending=False)
    table = table.assign(left_share=table["left_count"] / table["lead_count"]).reset_index(drop=True)
    left, total = int(table["left_count"].sum()), int(table["lead_count"].sum())
    groups = [
        f"{group} ({count:,})"
        for group, count in zip(table["disposition_group"], table["left_count"], strict=True)
        if count
    ]
    return Answer(
        "What became of the leads that left the latest snapshot?",
        table,
        f"{left:,} of {counted(total, 'lead')} ({share(left, total)}) are not in the latest snapshot. When they were "
        f"last seen: {', '.join(groups)}."
        if left
        else "All leads ever seen are in the latest snapshot."
        if total
        else "There is no snapshot yet.",
    )


def first_weeks(rows: pd.DataFrame) -> Answer:
    """Answer what becomes of leads, by the week in which they were first seen.

    Rows: `first_week lead_count appointment_count sale_count appointment_rate conversion_rate left_count
    uncertain_count comparison`, one per week. `first_week` is the Monday as text; the first row, "first snapshot",
    contains the leads of the first snapshot, whose week is not known. `appointment_rate` and `conversion_rate` (sales)
    are shares of `lead_count`, from 0 to 1. `left_count` leads are missing from the latest snapshot, and
    `uncertain_count` leads may belong to an earlier week. `comparison` is "few leads" for fewer than 50, else empty.
    """
    question = "How do the leads of each week do?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    is_known = rows["first_week"].notna()
    table = rows.assign(
        first_week=rows["first_week"].dt.strftime("%Y-%m-%d").where(is_known, "first snapshot"),
        comparison=(rows["lead_count"] < FEW_LEADS).map({True: FEW, False: ""}),
    )
    judged = rows[is_known & (rows["lead_count"] >= FEW_LEADS)]
    sentences = [f"No week has {FEW_LEADS} new leads yet: too few for a rate."] if judged.empty else []
    sentences += [
        f"Of the {counted(week['lead_count'], 'lead')} first seen in the week of {day(week['first_week'])}, "
        f"{share(week['appointment_count'], week['lead_count'])} have an appointment and "
        f"{share(week['sale_count'], week['lead_count'])} a sale so far."
        for week in judged.iloc[sorted({0, len(judged) - 1} if len(judged) else ())].to_dict("records")
    ]
    sentences += ["Leads of later weeks had less time."] * bool(len(judged))
    sentences.append(f"Leads of the first snapshot ({rows['lead_count'][~is_known].sum():,}) may be older.")
    if uncertain := int(rows["uncertain_count"].sum()):
        sentences.append(
            f"{counted(uncertain, 'lead')} may belong to an earlier week, because the days before have no snapshot."
        )
    return Answer(question, table, " ".join(sentences))


def days_to_stage(rows: pd.DataFrame, days: pd.DataFrame) -> Answer:
    """Answer how long leads take to reach each stage, for leads first seen after the first snapshot.

    Rows: `stage lead_count reached_count same_day_count within_7_days_count median_days inexact_count comparison`, one
    per stage. `lead_count` is the number of all these leads. The other columns describe those that reached the stage:
    `within_7_days_count` includes `same_day_count`, `median_days` is NaN if there are none, and `inexact_count` leads
    have an inexact time because of days without a snapshot. `comparison` is "few leads" for fewer than 50, else empty.

    Args:
        days: the rows of `leads_per_day`.
    """
    question = "How long does it take from first seen to appointment and sale?"
    if rows.empty:
        return Answer(question, rows, "No lead was first seen after the first snapshot yet.")
    table = rows.assign(comparison=(rows["reached_count"] < FEW_LEADS).map({True: FEW, False: ""}))
    stages = [
        f"{stage['reached_count']:,} had {'an' if stage['stage'] == 'appointment' else 'a'} {stage['stage']}"
        + (
            f" (median {counted(stage['median_days'], 'day')}, {stage['same_day_count']:,} when first seen"
            f"{', few leads' if stage['comparison'] else ''})"
            if stage["reached_count"]
            else ""
        )
        for stage in table.to_dict("records")
    ]
    length = (days["_partition_date"].iloc[-1] - days["_partition_date"].iloc[0]).days
    sentence = (
        f"Of {counted(rows['lead_count'].iloc[0], 'lead')} first seen after the first snapshot, {'; '.join(stages)}. "
        f"No time can be longer than the {counted(length, 'day')} from the first snapshot to the latest."
    )
    if rows["inexact_count"].any():
        counts = [f"{count:,}" for count in rows["inexact_count"]]
        sentence += f" Days without a snapshot make {', '.join(counts[:-1])} and {counts[-1]} of these times inexact."
    return Answer(question, table, sentence)
