"""Questions about gold: the rows of a query, and one sentence computed from them.

The notebooks and the report share these answers, so that they say the same. Each question is a file of
sql_scripts/analysis/, which reads gold's views. Nothing here draws: see `charts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd

from etl.reporting.answers import (
    FLAGS,
    FUNNEL,
    MATCHES,
    NEW_LEADS,
    QUALITY,
    STATUS,
    Anomalies,
    Answer,
    most_of,
    ranges,
    row_of,
    sound,
)
from etl.reporting.states import conversion_funnel_per_state
from etl.reporting.words import counted, day, share
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.utils_connection import Settings, postgres_engine
from etl.warehouse.sql_scripts import read_script

DAYS = ("_partition_date", "first_day", "last_day", "latest_snapshot")
Read = Callable[[str], pd.DataFrame]
"""Question → its rows. The question is the name of a file in sql_scripts/analysis/, without `.sql`."""


@contextmanager
def reading(settings: Settings) -> Iterator[Read]:
    """Yield a function that reads query results, all from the same snapshot of the database.

    Raises:
        PostgresError: for every fault that the server or the connection reports.
    """
    from sqlalchemy import text

    isolation = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with (
        translate_postgres_errors(settings),
        _driver_errors(),
        postgres_engine(settings).connect().execution_options(**isolation) as connection,
    ):
        yield lambda question: pd.read_sql(
            text(read_script(f"analysis/{question}.sql")), connection, parse_dates=list(DAYS)
        )


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raise errors of the driver without the wrappers of SQLAlchemy and pandas, which show the whole statement."""
    import psycopg2
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DBAPIError, pd.errors.DatabaseError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, psycopg2.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None


@dataclass(frozen=True)
class GoldAnalysis:
    """The answers of gold_EDA.ipynb and of the report, all from the same snapshot of the database."""

    freshness: Answer
    match_scenarios: Answer
    leads_per_day: Answer
    lead_quality_distribution: Answer
    lead_quality_per_day: Answer
    new_high_quality_leads_per_day: Answer
    conversion_funnel: Answer
    conversion_funnel_per_state: Answer
    status_changes: Answer
    suspect_hashes: Answer
    anomalies: Anomalies


def analyse_gold(read: Read) -> GoldAnalysis:
    """Answer all questions about gold."""
    days, anomalies = read("leads_per_day"), Anomalies(read("data_anomalies"))
    per_day = lead_quality_per_day(read("lead_quality_per_day"), days, anomalies)
    return GoldAnalysis(
        freshness=freshness(read("data_freshness"), days, anomalies),
        match_scenarios=match_scenarios(read("match_scenarios"), anomalies),
        leads_per_day=leads_per_day(days, anomalies),
        lead_quality_distribution=lead_quality_distribution(read("lead_quality_distribution"), per_day.rows, anomalies),
        lead_quality_per_day=per_day,
        new_high_quality_leads_per_day=new_high_quality_leads_per_day(
            read("new_high_quality_leads_per_day"), anomalies
        ),
        conversion_funnel=conversion_funnel(read("conversion_funnel"), anomalies),
        conversion_funnel_per_state=conversion_funnel_per_state(read("conversion_funnel_per_state"), anomalies),
        status_changes=status_changes(read("status_changes"), read("lead_lifecycle"), anomalies),
        suspect_hashes=suspect_hashes(read("suspect_hashes"), read("suspect_matches"), anomalies),
        anomalies=anomalies,
    )


def freshness(rows: pd.DataFrame, days: pd.DataFrame, anomalies: Anomalies) -> Answer:
    """Rows: `last_complete_run latest_snapshot days_late missing_days open_anomalies`, one."""
    question, latest = "How current and complete is the data?", row_of(rows, 0)
    if days.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    present = pd.DatetimeIndex(days["_partition_date"])
    missing = pd.date_range(present.min(), present.max()).difference(present)
    affected = anomalies.days(["*"])
    ended = latest["last_complete_run"]
    sentences = [
        f"The latest snapshot is of {day(latest['latest_snapshot'])}, {counted(latest['days_late'], 'day')} ago.",
        "No run was complete yet." if pd.isna(ended) else f"The last complete run ended {ended:%Y-%m-%d %H:%M} UTC.",
        f"{counted(len(missing), 'day')} without a snapshot: {ranges(list(missing))}."
        if len(missing)
        else "No day between the first and the latest snapshot is missing.",
        f"Days with anomalies: {ranges(affected)}." if affected else "No day has anomalies.",
    ]
    return Answer(question, rows, " ".join(sentences))


def match_scenarios(rows: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `scenario row_count lead_count`, one per scenario, `both` first."""
    counts = {str(name): int(count) for name, count in zip(rows["scenario"], rows["row_count"], strict=True)}
    total = sum(counts.values())
    answer = Answer(
        "How did snapshot rows match backend leads?",
        rows,
        f"Of {counted(total, 'row')}, {share(counts['both'], total)} match a lead on e-mail and phone; "
        f"{counts['email_only']:,} match on the e-mail alone, {counts['phone_only']:,} on the phone alone, "
        f"and {counts['none']:,} match none."
        if total
        else "There are no rows yet.",
    )
    return (anomalies or Anomalies()).mark(answer, MATCHES)


def leads_per_day(rows: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `_partition_date total_leads new_leads cumulative_leads is_first_snapshot`, one per snapshot day."""
    question = "How many leads are there each day, and how many of them are new?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    anomalies = anomalies or Anomalies()
    last, later = row_of(rows, -1), rows.iloc[1:]
    sentence = (
        f"The snapshot of {day(last['_partition_date'])} has {counted(last['total_leads'], 'lead')}, "
        f"of {last['cumulative_leads']:,} ever seen"
    )
    counted_days = sound(later, anomalies.days(NEW_LEADS))
    if later.empty:
        sentence += "; it is the only one so far."
    elif counted_days.empty:
        sentence += "; no day after the first has sound figures."
    else:
        most = most_of(counted_days, "new_leads")
        sentence += (
            f"; after the first day a snapshot brings {counted_days['new_leads'].mean():.0f} new ones on average"
            f"{_without(later, counted_days)}, and most on {day(most['_partition_date'])}: {most['new_leads']:,}."
        )
    return anomalies.mark(Answer(question, rows, sentence), NEW_LEADS)


def lead_quality_distribution(
    rows: pd.DataFrame, per_day: pd.DataFrame | None = None, anomalies: Anomalies | None = None
) -> Answer:
    """Rows: `lead_quality_flag row_count lead_count current_lead_count`, one per flag, the best first.

    Args:
        per_day: the rows of `lead_quality_per_day`.
    """
    high, medium, _low = (int(count) for count in rows["current_lead_count"])
    total = int(rows["current_lead_count"].sum())
    anomalies = anomalies or Anomalies()
    before = last_sound_quality(per_day, anomalies) if per_day is not None else None
    answer = Answer(
        "How good are the leads?",
        rows,
        f"Of {counted(total, 'lead')} as they are now, {high:,} ({share(high, total)}) are of high quality, with an "
        f"appointment and a demo, and {medium:,} ({share(medium, total)}) of medium quality, with an appointment alone."
        + (f" On the last day with sound flags ({before[0]}), {before[1]} were of high quality." if before else "")
        if total
        else "No lead is graded yet.",
    )
    return anomalies.mark(answer, QUALITY)


def last_sound_quality(per_day: pd.DataFrame, anomalies: Anomalies) -> tuple[str, str] | None:
    """Return the last day with sound flags and the share of high quality on it; None if that is the latest day.

    None, too, if no day has sound flags.
    """
    affected = anomalies.days(FLAGS)
    if per_day.empty or per_day["_partition_date"].iloc[-1] not in affected:
        return None
    days = sound(per_day, affected)
    if days.empty:
        return None
    last = row_of(days, -1)
    return f"{last['_partition_date']:%Y-%m-%d}", share(last["High Quality"], last["total_leads"])


def lead_quality_per_day(rows: pd.DataFrame, days: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `_partition_date`, a count of leads for each flag, and `total_leads`: one per snapshot day."""
    counts = rows.pivot(index="_partition_date", columns="lead_quality_flag", values="lead_count")
    counts = counts.reindex(columns=["High Quality", "Medium Quality", "Low Quality"]).fillna(0).astype(int)
    totals = days.set_index("_partition_date")["total_leads"]
    table = counts.assign(total_leads=totals.reindex(counts.index)).reset_index()
    table.columns.name = None
    question = "How good are the leads, day by day?"
    if table.empty:
        return Answer(question, table, "There is no snapshot yet.")
    anomalies = anomalies or Anomalies()
    sound_days = sound(table, anomalies.days(FLAGS))
    if sound_days.empty:
        sentence = "No snapshot has sound flags: the quality of its leads is not known."
    else:
        first, last = row_of(sound_days, 0), row_of(sound_days, -1)
        is_latest = last["_partition_date"] == table["_partition_date"].iloc[-1]
        sentence = (
            f"High-quality leads were {share(first['High Quality'], first['total_leads'])} of the snapshot of "
            f"{day(first['_partition_date'])} and {'are ' if is_latest else ''}"
            f"{share(last['High Quality'], last['total_leads'])} of that of {day(last['_partition_date'])}"
            + ("." if is_latest else ", the last day with sound flags.")
        )
    return anomalies.mark(Answer(question, table, sentence), QUALITY)


def new_high_quality_leads_per_day(rows: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `_partition_date new_high_quality_leads`, one per snapshot day, also for one without any."""
    anomalies = anomalies or Anomalies()
    later = rows.iloc[1:]
    counted_days = sound(later, anomalies.days(QUALITY))
    total = int(counted_days["new_high_quality_leads"].sum())
    if later.empty:
        sentence = "A trend takes two snapshots: on the first day all leads are new."
    elif counted_days.empty:
        sentence = "No day after the first has sound flags: how many leads became high quality is not known."
    elif not total:
        sentence = f"After the first day{_without(later, counted_days)}, no lead became high quality."
    else:
        best = most_of(counted_days, "new_high_quality_leads")
        sentence = (
            f"After the first day{_without(later, counted_days)}, {counted(total, 'lead')} became high quality: "
            f"{total / len(counted_days):.1f} a snapshot on average, and most on {day(best['_partition_date'])}: "
            f"{best['new_high_quality_leads']:,}."
        )
    return anomalies.mark(Answer("How many leads become high quality each day?", rows, sentence), QUALITY)


def _without(rows: pd.DataFrame, counted_days: pd.DataFrame) -> str:
    left_out = len(rows) - len(counted_days)
    return f" (without {counted(left_out, 'affected day')})" if left_out else ""


def conversion_funnel(rows: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `stage lead_count of_leads of_stage_before`, one per stage, the rates 0 to 1, NaN where nothing comes."""
    counts = {stage: int(rows[f"{column}_count"].iloc[0]) for stage, column in STAGES.items()}
    table = pd.DataFrame({"stage": list(counts), "lead_count": list(counts.values())})
    before = table["lead_count"].shift(fill_value=table["lead_count"].iloc[0])
    table["of_leads"] = table["lead_count"] / table["lead_count"].iloc[0]
    table["of_stage_before"] = table["lead_count"] / before
    leads, appointments, demos, sales = counts.values()
    answer = Answer(
        "Where do leads get lost?",
        table,
        f"Of {counted(leads, 'lead')}, {share(appointments, leads)} had an appointment, {share(demos, leads)} a "
        f"demo and {share(sales, leads)} a sale."
        if leads
        else "No lead is graded yet.",
    )
    return (anomalies or Anomalies()).mark(answer, FUNNEL)


STAGES = {"leads": "lead", "appointment": "appointment", "demo": "demo", "sale": "sale"}
"""Stage of the funnel → prefix of its column."""


def status_changes(rows: pd.DataFrame, lifecycle: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `dispo_before dispo change_count lead_count`, the most frequent change first.

    The sentence and the rows count the changes of gold.status_changes: none that only a broken flag makes.
    """
    anomalies = anomalies or Anomalies()
    named = rows.assign(dispo_before=rows["dispo_before"].fillna("(none)"), dispo=rows["dispo"].fillna("(none)"))
    life = lifecycle.iloc[0]
    question = "What becomes of a lead?"
    if not life["change_count"]:
        return anomalies.mark(Answer(question, named, "No lead has changed its status yet."), STATUS)
    sentence = (
        f"Of {counted(life['lead_count'], 'lead')}, {life['changed_lead_count']:,.0f} "
        f"({share(life['changed_lead_count'], life['lead_count'])}) changed their status at least once; a status that "
        f"ended had lasted {counted(life['median_days'], 'day')} (median)."
    )
    if not named.empty:
        most = named.iloc[0]
        sentence += (
            f" The most frequent step is from {most['dispo_before']} to {most['dispo']}: "
            f"{counted(most['change_count'], 'time')}."
        )
    if anomalies.days(["set_share"]):
        sentence += " Changes that only the broken flag set makes are not counted."
    return anomalies.mark(Answer(question, named, sentence), STATUS)


def suspect_hashes(rows: pd.DataFrame, matches: pd.DataFrame, anomalies: Anomalies | None = None) -> Answer:
    """Rows: `hash kind lead_number_count lead_uuid_count row_count reason`, the one in the most rows first."""
    falsely = matches.iloc[0]
    hashes, falsely_matched = rows["hash"].nunique(), int(falsely["row_count"])
    answer = Answer(
        "Which hashes match falsely?",
        rows,
        f"Suspect: {counted(hashes, 'hash', 'hashes')}. {counted(falsely_matched, 'match', 'matches')} of "
        f"{counted(falsely['lead_count'], 'lead')} rely on suspect hashes alone."
        if hashes
        else "No hash is suspect.",
    )
    return (anomalies or Anomalies()).mark(answer, MATCHES)
