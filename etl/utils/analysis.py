"""The questions of the analysis, asked of the warehouse: rows, and one sentence computed from them.

The notebooks and the report share these answers, so that they say the same. Each question is a file of
sql_scripts/analysis/, which reads gold's views. Nothing here draws: see `charts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from etl.utils.transactions import read_script
from etl.utils.utils_connection import Settings, explained_postgres_errors, postgres_engine

if TYPE_CHECKING:
    from datetime import date

DAYS = ("_partition_date", "first_day", "last_day")
Read = Callable[[str], pd.DataFrame]
"""Question → its rows. The question is the name of a file in sql_scripts/analysis/, without `.sql`."""


class Answer(NamedTuple):
    """What a question yields."""

    question: str
    rows: pd.DataFrame
    sentence: str


@contextmanager
def reading(settings: Settings) -> Iterator[Read]:
    """Read answers that are all of one moment: a run that publishes meanwhile is seen by none of them.

    Raises:
        PostgresError: for every fault that the server or the connection reports.
    """
    from sqlalchemy import text

    isolation = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with (
        explained_postgres_errors(settings),
        _driver_errors(),
        postgres_engine(settings).connect().execution_options(**isolation) as connection,
    ):
        yield lambda question: pd.read_sql(
            text(read_script(f"analysis/{question}.sql")), connection, parse_dates=list(DAYS)
        )


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raise what the driver raised, free of SQLAlchemy's wrapping, which shows the whole statement."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from None


# --- gold -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoldAnalysis:
    """How good the leads are: the answers of gold_EDA.ipynb and of the report, all of one moment."""

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
    """Ask gold all its questions."""
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
        f"Of {counted(leads, 'lead')}, {share(appointments, leads)} came to an appointment, {share(demos, leads)} to a "
        f"demo and {share(sales, leads)} to a sale."
        if leads
        else "No lead is graded yet.",
    )


STAGES = {"leads": "lead", "appointment": "appointment", "demo": "demo", "sale": "sale"}
"""Stage of the funnel → what its column is called after."""

FEW_LEADS = 50
"""A rate of fewer leads than these says little."""


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
        f"Suspect: {counted(hashes, 'hash', 'hashes')}. On suspect hashes alone rest "
        f"{counted(falsely_matched, 'match', 'matches')}, of {counted(falsely['lead_count'], 'lead')}."
        if hashes
        else "No hash is suspect.",
    )


# --- silver ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SilverAnalysis:
    """What came through cleaning: the answers of silver_EDA.ipynb, all of one moment."""

    rows_per_day: Answer
    null_shares: Answer
    distinct_values: Answer
    duplicate_keys: Answer
    rejected_rows: Answer


def analyse_silver(read: Read) -> SilverAnalysis:
    """Ask silver all its questions."""
    filled = read("filled_cells_per_day")
    return SilverAnalysis(
        rows_per_day=rows_per_day(read("rows_per_day")),
        null_shares=null_shares(filled),
        distinct_values=distinct_values(read("distinct_values"), read("column_types"), filled),
        duplicate_keys=duplicate_keys(read("duplicate_keys")),
        rejected_rows=rejected_rows(read("rejected_rows")),
    )


def rows_per_day(rows: pd.DataFrame) -> Answer:
    """Rows: `_partition_date row_count lead_number_count rejected_count`, one per snapshot day."""
    question = "How many rows does each day have?"
    if rows.empty:
        return Answer(question, rows, "There is no snapshot yet.")
    fewest, most = _fewest(rows, "row_count"), _most(rows, "row_count")
    return Answer(
        question,
        rows,
        f"{counted(len(rows), 'day')} of {rows['row_count'].mean():,.0f} rows on average, from {fewest['row_count']:,} "
        f"({day(fewest['_partition_date'])}) to {most['row_count']:,} ({day(most['_partition_date'])}); "
        f"{counted(rows['rejected_count'].sum(), 'row')} rejected.",
    )


def null_shares(filled: pd.DataFrame) -> Answer:
    """Rows: one per column, its name the index, one column per day: the share of rows without a value, 0 to 1."""
    counts = filled.set_index("_partition_date")
    shares = 1 - counts.drop(columns="row_count").div(counts["row_count"], axis=0)
    table = shares.T
    table.index.name = "column"
    table.columns.name = None
    question = "Which columns have no value, and when?"
    if table.empty or table.shape[1] == 0:
        return Answer(question, table, "There is no snapshot yet.")
    is_filled = table < 1
    on_some_days = is_filled.any(axis=1) & ~is_filled.all(axis=1)
    appears = [
        f"{name} from {day(pd.Timestamp(first))} on" for name, first in is_filled[on_some_days].idxmax(axis=1).items()
    ]
    overall = 1 - counts.drop(columns="row_count").sum() / counts["row_count"].sum()
    emptiest = overall.sort_values(ascending=False)
    return Answer(
        question,
        table,
        f"{emptiest.index[0]} is empty most often ({share(emptiest.iloc[0], 1)} of all rows); "
        f"{(overall == 0).sum()} of {len(overall)} columns always have a value."
        + (f" Filled on some days only: {', '.join(appears)}." if appears else ""),
    )


def distinct_values(distinct: pd.DataFrame, types: pd.DataFrame, filled: pd.DataFrame) -> Answer:
    """Rows: `column_name type_name null_share distinct_count`, one per column of silver.stg_csv_snapshots."""
    table = types[types["table_name"] == "stg_csv_snapshots"].drop(columns="table_name").reset_index(drop=True)
    total = max(int(filled["row_count"].sum()), 1)
    table["null_share"] = table["column_name"].map(
        1 - filled.drop(columns=["_partition_date", "row_count"]).sum() / total
    )
    table["distinct_count"] = table["column_name"].map(distinct.iloc[0])
    table = table.dropna(subset="distinct_count").astype({"distinct_count": int}).reset_index(drop=True)
    most = _most(table, "distinct_count")
    return Answer(
        "Which types and values do the columns have?",
        table,
        f"{most['column_name']} has the most distinct values: {most['distinct_count']:,} in "
        f"{counted(filled['row_count'].sum(), 'row')}.",
    )


def duplicate_keys(rows: pd.DataFrame) -> Answer:
    """Rows: `kind value_count duplicated_value_count row_count`, one per kind of id or hash."""
    doubled = rows[rows["duplicated_value_count"] > 0]
    named = ", ".join(
        f"{kind} ({count:,})" for kind, count in zip(doubled["kind"], doubled["duplicated_value_count"], strict=True)
    )
    return Answer(
        "Which ids and hashes stand in more than one row?",
        rows,
        f"More than one row shares a value of: {named}." if named else "No id and no hash stands in more than one row.",
    )


def rejected_rows(rows: pd.DataFrame) -> Answer:
    """Rows: `reason step row_count file_count first_day last_day`, the most frequent first."""
    total = int(rows["row_count"].sum())
    return Answer(
        "What was rejected, and why?",
        rows,
        f"{counted(total, 'row')} rejected, most often because: {rows['reason'].iloc[0]} "
        f"({rows['row_count'].iloc[0]:,})."
        if total
        else "No row is rejected.",
    )


def header_drift(headers: dict[date, list[str]]) -> Answer:
    """Rows: `day added missing moved`, one per day whose header differs from that of the day before.

    Args:
        headers: the columns of each day's file, in the file's order.
    """
    found = []
    days = sorted(headers)
    for before, after in pairwise(days):
        old, new = headers[before], headers[after]
        added = [name for name in new if name not in old]
        missing = [name for name in old if name not in new]
        moved = [name for name in new if name in old] != [name for name in old if name in new]
        if added or missing or moved:
            found.append((after, ", ".join(added), ", ".join(missing), "yes" if moved else ""))
    table = pd.DataFrame(found, columns=["day", "added", "missing", "order changed"])
    changed = ", ".join(day(row_day) for row_day in table["day"])
    return Answer(
        "When did the files' header change?",
        table,
        f"Of {counted(len(days), 'file')}, {len(table)} have another header than the one before: those of {changed}."
        if found
        else f"All of {counted(len(days), 'file')} have the same header.",
    )


ALWAYS_ZERO = "0 in all rows"
_FLAGS = {"is_set": ("Set", ALWAYS_ZERO), "is_demo": ("Demo", ALWAYS_ZERO)}
"""A flag that never is set on some days: quality is graded by it, and would seem to fall."""


def source_drift(filled: pd.DataFrame, unknown: pd.DataFrame) -> Answer:
    """Rows: `column_name what first_day last_day`: columns that say nothing on some days, and unknown ones.

    Args:
        filled: per day, cells with a value in each column; `is_set` and `is_demo`: those that are not 0.
        unknown: columns that bronze has not.
    """
    counts = filled.set_index("_partition_date").drop(columns="row_count")
    found = []
    for name in counts.columns:
        empty = counts.index[counts[name] == 0]
        if 0 < len(empty) < len(counts):
            column, what = _FLAGS.get(str(name), (str(name), "empty"))
            found.append((column, what, empty[0], empty[-1]))
    found += [
        (name, "unknown", first, last)
        for name, first, last in zip(unknown["column_name"], unknown["first_day"], unknown["last_day"], strict=True)
    ]
    table = pd.DataFrame(found, columns=["column_name", "what", "first_day", "last_day"])
    return Answer(
        "How did the files drift?",
        table,
        f"{counted(len(table), 'column')} drifted: {', '.join(f'{name} ({what})' for name, what, *_ in found)}."
        if found
        else "All files have the same columns, filled.",
    )


def _most(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the greatest value."""
    return _row(rows, int(rows[column].argmax()))


def _fewest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the least value."""
    return _row(rows, int(rows[column].argmin()))


def _row(rows: pd.DataFrame, position: int) -> dict[str, Any]:
    return {str(name): value for name, value in rows.iloc[position].items()}


def formatted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they are shown in a table: every cell text, NULL as an empty one.

    Rates and shares (0 to 1) become percentages; columns are named by words.
    """
    shown = {str(name): rows[name].map(_format_of(str(name), rows[name]), na_action="ignore") for name in rows.columns}
    table = pd.DataFrame(shown, dtype=object)
    table = table.where(table.notna(), "")
    return table.rename(columns=lambda name: str(name).strip("_").replace("_", " "))


def _format_of(name: str, values: pd.Series[Any]) -> Callable[[Any], str]:
    if pd.api.types.is_datetime64_any_dtype(values):
        return lambda moment: f"{moment:%Y-%m-%d}"
    if name.endswith(("rate", "share")) or name.startswith("of_"):
        return lambda part: share(part, 1)
    if pd.api.types.is_float_dtype(values):
        return lambda number: f"{number:,.1f}"
    if pd.api.types.is_integer_dtype(values):
        return lambda number: f"{number:,}"
    return str


# --- words ----------------------------------------------------------------------------------------


def counted(count: float, thing: str, things: str | None = None) -> str:
    """`1 lead`, `4,364 leads`."""
    number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.1f}"
    return f"{number} {thing if count == 1 else things or thing + 's'}"


def share(part: float, whole: float) -> str:
    """A share in percent; one that is not whole never shows as 0 % or 100 %."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def day(moment: pd.Timestamp | date) -> str:
    """`9 October 2024`, in any locale."""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
