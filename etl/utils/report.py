"""The report: gold's answers as one HTML page that needs nothing but itself (`python main.py --report`)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl import __version__
from etl.utils import analysis, charts
from etl.utils.analysis import Answer, Read, analyse_gold, counted, formatted, share
from etl.utils.state import GOLD_MATCHING, require_tables
from etl.utils.transactions import transaction
from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    import pandas as pd

REPORT = Path("reports/lead_quality.html")
TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Figure:
    """A headline figure: the number, what it counts, and what to compare it with."""

    number: str
    label: str
    note: str


@dataclass(frozen=True)
class Table:
    """Rows as text."""

    caption: str
    headings: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Block:
    """One question: its sentence, its picture (where it has one) and its rows."""

    question: str
    sentence: str
    table: Table | None
    pictures: Mapping[str, str]
    """`light`, `dark`, `light_narrow`, `dark_narrow` → data URI. Empty: no picture."""
    alt: str


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    blocks: Sequence[Block]


def write_report(settings: Settings, target: Path = REPORT) -> Path:
    """Render gold as it stands to a file, which is replaced as a whole.

    Raises:
        CheckFailedError: there is no gold yet.
        PostgresError: for every fault that the server or the connection reports.
    """
    with transaction(settings) as db:
        require_tables(db, GOLD_MATCHING, "gold.suspect_matches", made_by=1)
    with analysis.reading(settings) as read:
        page = render(read, created=datetime.now(UTC))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.draft")
    draft.write_text(page, encoding="utf-8")
    draft.replace(target)
    return target


def render(read: Read, *, created: datetime) -> str:
    """The page, from what `read` says of the warehouse."""
    gold = analyse_gold(read)
    runs = read("last_runs")
    drift = analysis.source_drift(read("source_cells_per_day"), read("unknown_columns"))
    rejected = analysis.rejected_rows(read("rejected_rows"))
    rows_per_day = analysis.rows_per_day(read("rows_per_day"))
    sections = [
        Section(
            "quality",
            "Quality",
            [
                _block(gold.lead_quality_distribution, charts.lead_quality_distribution, "Bars: leads by quality."),
                _block(
                    gold.new_high_quality_leads_per_day,
                    charts.new_high_quality_leads_per_day,
                    "Line: new high-quality leads by day, without the first day, with their mean.",
                ),
                _block(
                    gold.lead_quality_per_day,
                    charts.lead_quality_per_day,
                    "Stacked bars: leads of high and of medium quality by day.",
                ),
            ],
        ),
        Section(
            "leads",
            "Leads",
            [
                _block(
                    gold.leads_per_day,
                    charts.leads_per_day,
                    "Lines: leads in each snapshot and all ever seen. Bars: new leads by day, without the first day.",
                ),
                _block(gold.status_changes, charts.status_changes, "Bars: the most frequent changes of disposition."),
            ],
        ),
        Section(
            "funnel",
            "Conversion",
            [
                _block(gold.conversion_funnel, charts.conversion_funnel, "Bars: leads that came to each stage."),
                _block(
                    gold.conversion_funnel_per_state,
                    charts.conversion_funnel_per_state,
                    "Bars: share of sold leads in the states with the most leads.",
                ),
            ],
        ),
        Section(
            "matching",
            "Matching",
            [
                _block(
                    gold.match_scenarios,
                    charts.match_scenarios,
                    "Bars: rows that match on both hashes, and at another scale those that do not.",
                ),
                _block(gold.suspect_hashes, charts.suspect_hashes, "Bars: rows that each suspect hash stands in."),
            ],
        ),
        Section(
            "data-quality",
            "Data quality",
            [
                _block(refused_files(runs)),
                _block(rejected, charts.rejected_rows, "Bars: rejected rows by reason."),
                _block(drift),
                _block(rows_per_day, charts.rows_per_day, "Stacked bars: clean and rejected rows by day."),
            ],
        ),
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        period=_period(gold.leads_per_day.rows),
        figures=_headline(gold),
        notices=_notices(drift),
        sections=sections,
        run=_last_run(runs),
        created=_moment(created),
        version=__version__,
    )


def refused_files(runs: pd.DataFrame) -> Answer:
    """What the last run says of files that it refused; the last runs are its rows."""
    question = "Were files refused?"
    table = runs.reindex(columns=["started_at", "status", "message", "run_id"])
    table["started_at"] = table["started_at"].map(_moment)
    table["message"] = table["message"].str.split("\n").str[0]
    table = table.dropna(axis="columns", how="all")  # most often there are no messages
    if runs.empty:
        return Answer(question, table, "No run is on record.")
    last = runs.iloc[0]
    if last["status"] == "refused":
        return Answer(question, table, f"The last run refused data: {last['message']}")
    refusals = int((runs["status"] == "refused").sum())
    before = f" Of the last {len(runs)} runs, {refusals} did." if refusals else ""
    return Answer(question, table, f"The last run refused no file.{before}")


def _notices(drift: Answer) -> list[str]:
    """What to know before believing the figures: flags that stay 0 make leads seem worse than they are."""
    flags = drift.rows[drift.rows["what"] == analysis.ALWAYS_ZERO]
    return [
        f"{name} is 0 in all rows of snapshots from {analysis.day(first)} to {analysis.day(last)}: leads are graded by "
        "it, so the quality that these snapshots show is not that of the leads."
        for name, first, last in zip(flags["column_name"], flags["first_day"], flags["last_day"], strict=True)
    ]


def _headline(gold: analysis.GoldAnalysis) -> list[Figure]:
    days, trend = gold.leads_per_day.rows, gold.new_high_quality_leads_per_day.rows
    if days.empty:
        return []
    last = days.iloc[-1]
    graded = gold.lead_quality_distribution.rows["current_lead_count"]
    stages = gold.conversion_funnel.rows["lead_count"]
    rows = gold.match_scenarios.rows["row_count"]
    later = trend["new_high_quality_leads"].iloc[1:]
    return [
        Figure(
            f"{last['total_leads']:,}", "leads in the latest snapshot", f"of {last['cumulative_leads']:,} ever seen"
        ),
        Figure(
            share(graded.iloc[0], graded.sum()), "are of high quality", f"{graded.iloc[0]:,} leads, as they are now"
        ),
        Figure(
            f"{trend['new_high_quality_leads'].iloc[-1]:,}" if len(later) else "none yet",
            "became high quality in the latest snapshot",
            f"{later.mean():.1f} on average" if len(later) else "a trend takes two snapshots",
        ),
        Figure(share(stages.iloc[1], stages.iloc[0]), "came to an appointment", f"{stages.iloc[1]:,} leads"),
        Figure(share(stages.iloc[3], stages.iloc[0]), "were sold", f"{stages.iloc[3]:,} leads"),
        Figure(share(rows.iloc[0], rows.sum()), "of rows match on both hashes", f"{rows.iloc[3]:,} match no lead"),
    ]


def _block(answer: Answer, picture: charts.Picture | None = None, alt: str = "") -> Block:
    is_drawn = picture is not None and not answer.rows.empty
    return Block(
        answer.question,
        answer.sentence,
        _table(answer) if len(answer.rows) else None,
        _pictures(picture, answer.rows) if picture and is_drawn else {},
        f"{alt} The figures stand in the table below.",
    )


def _pictures(picture: charts.Picture, rows: pd.DataFrame) -> dict[str, str]:
    wide, narrow = (charts.as_svg(picture(rows, narrow=narrow)) for narrow in (False, True))
    drawn = {"light": wide, "dark": charts.in_dark(wide), "light_narrow": narrow, "dark_narrow": charts.in_dark(narrow)}
    return {name: _data_uri(svg) for name, svg in drawn.items()}


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


MOST_ROWS = 100
"""So many rows of a table are on the page: it is to be read."""


def _table(answer: Answer) -> Table:
    rows = answer.rows.head(MOST_ROWS)
    shown = formatted(rows)
    more = f" The first {MOST_ROWS} of {len(answer.rows):,} rows." if len(answer.rows) > MOST_ROWS else ""
    return Table(
        answer.question + more,
        list(shown.columns),
        [kind.kind in "iuf" for kind in rows.dtypes],
        [[str(cell) for cell in row] for row in shown.to_numpy()],
    )


def _period(days: pd.DataFrame) -> str:
    if days.empty:
        return "No snapshot yet"
    first, last = days["_partition_date"].iloc[0], days["_partition_date"].iloc[-1]
    return f"{counted(len(days), 'snapshot')}, {analysis.day(first)} to {analysis.day(last)}"


def _last_run(runs: pd.DataFrame) -> dict[str, Any]:
    """The latest run that came to its end: the one that gold is of, or that left it as it was."""
    ended = runs[runs["ended_at"].notna()]
    if ended.empty:
        return {}
    last = ended.iloc[0]
    return {"id": last["run_id"], "status": last["status"], "ended": _moment(last["ended_at"])}


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
