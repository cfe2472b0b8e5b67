"""Questions about gold: the rows of a query, and one sentence computed from them.

The notebooks and the report share these answers, so that they say the same. Each question is a file of
sql_scripts/analysis/, which reads gold's views. Nothing here draws: see `charts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from etl.reporting.words import counted, day, share
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.utils_connection import Settings, postgres_engine
from etl.warehouse.sql_scripts import read_script

if TYPE_CHECKING:
    pass


DAYS = ("_partition_date", "first_day", "last_day")
Read = Callable[[str], pd.DataFrame]
"""Question → its rows. The question is the name of a file in sql_scripts/analysis/, without `.sql`."""


class Answer(NamedTuple):
    """The answer to a question: rows and a sentence."""

    question: str
    rows: pd.DataFrame
    sentence: str


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

    match_scenarios: Answer
    leads_per_day: Answer
    lead_quality_distribution: Answer
    lead_quality_per_day: Answer
    new_high_quality_leads_per_day: Answer
    conversion_funnel: Answer
    conversion_funnel_per_state: Answer
    status_changes: Answer
    suspect_hashes: Answer


def analyse_gold(read: Read) -> GoldAnalysis:
    """Answer all questions about gold."""
    days = read("leads_per_day")
    return GoldAnalysis(
        match_scenarios=match_scenarios(read("match_scenarios")),
        leads_per_day=leads_per_day(days),
        lead_quality_distribution=lead_quality_distribution(read("lead_quality_distribution")),
        lead_quality_per_day=lead_quality_per_day(read("lead_quality_per_day"), days),
        new_high_quality_leads_per_day=new_high_quality_leads_per_day(read("new_high_quality_leads_per_day")),
        conversion_funnel=conversion_funnel(read("conversion_funnel")),
        conversion_funnel_per_state=conversion_funnel_per_state(read("conversion_funnel_per_state")),
        status_changes=status_changes(read("status_changes"), read("lead_lifecycle")),
        suspect_hashes=suspect_hashes(read("suspect_hashes"), read("suspect_matches")),
    )


def match_scenarios(rows: pd.DataFrame) -> Answer:
    """Rows: `scenario row_count lead_count`, one per scenario, `both` first."""
    counts = {str(name): int(count) for name, count in zip(rows["scenario"], rows["row_count"], strict=True)}
    total = sum(counts.values())
    return Answer(
        "How did snapshot rows match backend leads?",
        rows,
        f"Of {counted(total, 'row')}, {share(counts['both'], total)} match a lead on e-mail and phone; "
        f"{counts['email_only']:,} match on the e-mail alone, {counts['phone_only']:,} on the phone alone, "
        f"and {counts['none']:,} match none."
        if total
        else "There are no rows yet.",
    )


def leads_per_day(rows: pd.DataFrame) -> Answer:
    """Rows: `_partition_date total_leads new_leads cumulative_leads`, one per snapshot day."""
    question = "How many leads are there each day, and how many of them are new?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    last, later = _row(rows, -1), rows.iloc[1:]
    sentence = (
        f"The snapshot of {day(last['_partition_date'])} has {counted(last['total_leads'], 'lead')}, "
        f"of {last['cumulative_leads']:,} ever seen"
    )
    if later.empty:
        return Answer(question, rows, f"{sentence}; it is the only one so far.")
    most = _most(later, "new_leads")
    return Answer(
        question,
        rows,
        f"{sentence}; after the first day a snapshot brings {later['new_leads'].mean():.0f} new ones on average, "
        f"and most on {day(most['_partition_date'])}: {most['new_leads']:,}.",
    )


def lead_quality_distribution(rows: pd.DataFrame) -> Answer:
    """Rows: `lead_quality_flag row_count lead_count current_lead_count`, one per flag, the best first."""
    high, medium, _low = (int(count) for count in rows["current_lead_count"])
    total = int(rows["current_lead_count"].sum())
    return Answer(
        "How good are the leads?",
        rows,
        f"Of {counted(total, 'lead')} as they are now, {high:,} ({share(high, total)}) are of high quality, with an "
        f"appointment and a demo, and {medium:,} ({share(medium, total)}) of medium quality, with an appointment alone."
        if total
        else "No lead is graded yet.",
    )


def lead_quality_per_day(rows: pd.DataFrame, days: pd.DataFrame) -> Answer:
    """Rows: `_partition_date`, a count of leads for each flag, and `total_leads`: one per snapshot day."""
    counts = rows.pivot(index="_partition_date", columns="lead_quality_flag", values="lead_count")
    counts = counts.reindex(columns=["High Quality", "Medium Quality", "Low Quality"]).fillna(0).astype(int)
    totals = days.set_index("_partition_date")["total_leads"]
    table = counts.assign(total_leads=totals.reindex(counts.index)).reset_index()
    table.columns.name = None
    question = "How good are the leads, day by day?"
    if table.empty:
        return Answer(question, table, "There is no snapshot yet.")
    first, last = _row(table, 0), _row(table, -1)
    return Answer(
        question,
        table,
        f"High-quality leads were {share(first['High Quality'], first['total_leads'])} of the snapshot of "
        f"{day(first['_partition_date'])} and are {share(last['High Quality'], last['total_leads'])} of that of "
        f"{day(last['_partition_date'])}.",
    )


def new_high_quality_leads_per_day(rows: pd.DataFrame) -> Answer:
    """Rows: `_partition_date new_high_quality_leads`, one per snapshot day, also for one without any."""
    later = rows.iloc[1:]
    question = "How many leads become high quality each day?"
    if later.empty:
        return Answer(question, rows, "A trend takes two snapshots: on the first day all leads are new.")
    best = _most(later, "new_high_quality_leads")
    total = int(later["new_high_quality_leads"].sum())
    if not total:
        return Answer(question, rows, "After the first day, no lead became high quality.")
    return Answer(
        question,
        rows,
        f"After the first day, {counted(total, 'lead')} became high quality: {total / len(later):.1f} a snapshot on "
        f"average, and most on {day(best['_partition_date'])}: {best['new_high_quality_leads']:,}.",
    )


def conversion_funnel(rows: pd.DataFrame) -> Answer:
    """Rows: `stage lead_count of_leads of_stage_before`, one per stage, the rates 0 to 1, NaN where nothing comes."""
    counts = {stage: int(rows[f"{column}_count"].iloc[0]) for stage, column in STAGES.items()}
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


STAGES = {"leads": "lead", "appointment": "appointment", "demo": "demo", "sale": "sale"}
"""Stage of the funnel → prefix of its column."""
FEW_LEADS = 50
"""Minimum number of leads for a meaningful rate."""


def conversion_funnel_per_state(rows: pd.DataFrame) -> Answer:
    """Rows: `state lead_count … conversion_rate`, one per state, the one with the most leads first."""
    named = rows.assign(state=rows["state"].fillna("unknown"))
    judged = named[named["lead_count"] >= FEW_LEADS]
    question = "And state by state?"
    if judged.empty:
        return Answer(question, named, f"No state has {FEW_LEADS} leads yet: too few for a rate.")
    best = _most(judged, "conversion_rate")
    worst = _fewest(judged, "conversion_rate")
    return Answer(
        question,
        named,
        f"Of the states with at least {FEW_LEADS} leads, {best['state']} sells most often "
        f"({share(best['sale_count'], best['lead_count'])} of {counted(best['lead_count'], 'lead')}) and "
        f"{worst['state']} least often ({share(worst['sale_count'], worst['lead_count'])} of {worst['lead_count']:,})."
        if len(judged) > 1
        else f"Only {best['state']} has at least {FEW_LEADS} leads: it sells "
        f"{share(best['sale_count'], best['lead_count'])} of them.",
    )


def status_changes(rows: pd.DataFrame, lifecycle: pd.DataFrame) -> Answer:
    """Rows: `dispo_before dispo change_count lead_count`, the most frequent change first."""
    named = rows.assign(dispo_before=rows["dispo_before"].fillna("(none)"), dispo=rows["dispo"].fillna("(none)"))
    life = lifecycle.iloc[0]
    question = "What becomes of a lead?"
    if not life["change_count"]:
        return Answer(question, named, "No lead has changed its status yet.")
    sentence = (
        f"Of {counted(life['lead_count'], 'lead')}, {life['changed_lead_count']:,.0f} "
        f"({share(life['changed_lead_count'], life['lead_count'])}) changed their status at least once; a status that "
        f"ended had lasted {counted(life['median_days'], 'day')} (median)"
    )
    if named.empty:
        return Answer(question, named, f"{sentence}.")
    most = named.iloc[0]
    return Answer(
        question,
        named,
        f"{sentence}. The most frequent step is from {most['dispo_before']} to {most['dispo']}: "
        f"{counted(most['change_count'], 'time')}.",
    )


def suspect_hashes(rows: pd.DataFrame, matches: pd.DataFrame) -> Answer:
    """Rows: `hash kind lead_number_count lead_uuid_count row_count reason`, the one in the most rows first."""
    falsely = matches.iloc[0]
    hashes, falsely_matched = rows["hash"].nunique(), int(falsely["row_count"])
    return Answer(
        "Which hashes match falsely?",
        rows,
        f"Suspect: {counted(hashes, 'hash', 'hashes')}. {counted(falsely_matched, 'match', 'matches')} of "
        f"{counted(falsely['lead_count'], 'lead')} rely on suspect hashes alone."
        if hashes
        else "No hash is suspect.",
    )


def _most(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the first row with the greatest value."""
    return _row(rows, int(rows[column].argmax()))


def _fewest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the first row with the smallest value."""
    return _row(rows, int(rows[column].argmin()))


def _row(rows: pd.DataFrame, position: int) -> dict[str, Any]:
    return {str(name): value for name, value in rows.iloc[position].items()}
