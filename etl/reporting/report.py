"""The report: the analysis of gold as one self-contained HTML page (`python main.py --report`)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl import __version__
from etl.reporting import analysis, charts, silver_analysis, words
from etl.reporting.analysis import Read, analyse_gold, last_sound_quality
from etl.reporting.answers import NULL_SHARES, Answer, ranges, sound
from etl.reporting.words import counted, formatted, share
from etl.utils.errors import HOST_UID_HINT, OutputError
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import require_tables
from etl.warehouse.tables import GOLD_MATCHING
from etl.warehouse.transactions import transaction

if TYPE_CHECKING:
    import pandas as pd

REPORT = Path("reports/lead_quality.html")
TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Kpi:
    """A headline number, its label, a reference value, and the note of the answer that it is from."""

    number: str
    label: str
    reference: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows as text."""

    caption: str
    headings: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Block:
    """One question: its sentence, its note, its chart (where it has one) and its rows."""

    question: str
    sentence: str
    note: str
    table: Table | None
    charts: Mapping[str, str]
    """`light`, `dark`, `light_narrow`, `dark_narrow` → data URI. Empty: no chart."""
    alt: str


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    blocks: Sequence[Block]


def write_report(settings: Settings, target: Path = REPORT) -> Path:
    """Render the report of the current gold to a file, replacing it atomically.

    Raises:
        CheckFailedError: there is no gold yet.
        PostgresError: the server or the connection reports an error.
        OutputError: the file cannot be written.
    """
    with transaction(settings) as db:
        require_tables(db, GOLD_MATCHING, "gold.suspect_matches", "gold.status_changes", created_by_step=1)
    with analysis.reading(settings) as read:
        page = render(read, created=datetime.now(UTC))
    _replace(target, page)
    return target


def _replace(target: Path, page: str) -> None:
    draft = target.with_name(f".{target.name}.draft")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(page, encoding="utf-8")
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise OutputError(
            f"the report cannot be written to {target.absolute()}: {error.strerror}",
            hint=f"run in a folder in which you may create files, free disk space if there is none; {HOST_UID_HINT}",
        ) from error


def render(read: Read, *, created: datetime) -> str:
    """The page, from what `read` says of the warehouse."""
    gold = analyse_gold(read)
    runs = read("last_runs")
    drift = silver_analysis.source_drift(read("source_cells_per_day"), read("unknown_columns"))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        period=_period(gold.leads_per_day.rows),
        freshness=gold.freshness.sentence,
        figures=_headline(gold),
        notices=_notices(gold, drift),
        sections=[
            *_lead_sections(gold),
            _funnel_section(gold),
            _matching_section(gold),
            _data_section(read, runs, drift, gold),
        ],
        run=_last_run(runs),
        created=_moment(created),
        version=__version__,
    )


def _lead_sections(gold: analysis.GoldAnalysis) -> list[Section]:
    return [
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
    ]


def _funnel_section(gold: analysis.GoldAnalysis) -> Section:
    return Section(
        "funnel",
        "Conversion",
        [
            _block(gold.conversion_funnel, charts.conversion_funnel, "Bars: leads that reached each stage."),
            _block(
                gold.conversion_funnel_per_state,
                charts.conversion_funnel_per_state,
                "Bars: share of sold leads in the states with the most leads.",
            ),
        ],
    )


def _matching_section(gold: analysis.GoldAnalysis) -> Section:
    return Section(
        "matching",
        "Matching",
        [
            _block(
                gold.match_scenarios,
                charts.match_scenarios,
                "Bars: rows that match on both hashes, and at another scale those that do not.",
            ),
            _block(gold.suspect_hashes, charts.suspect_hashes, "Bars: rows per suspect hash."),
        ],
    )


def _data_section(read: Read, runs: pd.DataFrame, drift: Answer, gold: analysis.GoldAnalysis) -> Section:
    rejected = silver_analysis.rejected_rows(read("rejected_rows"))
    rows_per_day = silver_analysis.rows_per_day(read("rows_per_day"), gold.anomalies)
    return Section(
        "data-quality",
        "Data quality",
        [
            _block(gold.freshness),
            _block(refused_files(runs)),
            _block(rejected, charts.rejected_rows, "Bars: rejected rows by reason."),
            _block(gold.anomalies.mark(drift, NULL_SHARES)),
            _block(rows_per_day, charts.rows_per_day, "Stacked bars: clean and rejected rows by day."),
        ],
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


def _notices(gold: analysis.GoldAnalysis, drift: Answer) -> list[str]:
    """Notices on days that should not be trusted, and on flags that are 0 in all rows of days that are not tested."""
    found = gold.anomalies.note(["*"])
    notices = [f"figures of some days should not be trusted: {found}."] if found else []
    if not gold.anomalies.days(["set_share", "demo_share"]):
        flags = drift.rows[drift.rows["what"] == silver_analysis.ALWAYS_ZERO]
        notices += [
            f"{name} is 0 in all rows of these snapshots: {days}. Leads are graded by it, so the quality that these "
            "snapshots show is not that of the leads."
            for name, days in zip(flags["column_name"], flags["days"], strict=True)
        ]
    return notices


def _headline(gold: analysis.GoldAnalysis) -> list[Kpi]:
    days, trend = gold.leads_per_day, gold.new_high_quality_leads_per_day
    if days.rows.empty:
        return []
    last = days.rows.iloc[-1]
    funnel, matches = gold.conversion_funnel, gold.match_scenarios
    stages, rows = funnel.rows["lead_count"], matches.rows["row_count"]
    later = sound(trend.rows.iloc[1:], trend.affected_days)["new_high_quality_leads"]
    has_trend = len(trend.rows) > 1
    average = f"{later.mean():.1f} on average" if len(later) else "no average: no day after the first is sound"
    if len(later) and trend.affected_days:
        average += ", without affected days"
    return [
        Kpi(
            f"{last['total_leads']:,}",
            "leads in the latest snapshot",
            f"of {last['cumulative_leads']:,} ever seen",
            _days_note(days),
        ),
        _quality(gold),
        Kpi(
            f"{trend.rows['new_high_quality_leads'].iloc[-1]:,}" if has_trend else "none yet",
            "became high quality in the latest snapshot",
            average if has_trend else "a trend takes two snapshots",
            _days_note(trend),
        ),
        *(
            Kpi(share(stages.iloc[stage], stages.iloc[0]), label, f"{stages.iloc[stage]:,} leads", _days_note(funnel))
            for stage, label in ((1, "had an appointment"), (3, "were sold"))
        ),
        Kpi(
            share(rows.iloc[0], rows.sum()),
            "of rows match on both hashes",
            f"{rows.iloc[3]:,} match no lead",
            _days_note(matches),
        ),
    ]


def _quality(gold: analysis.GoldAnalysis) -> Kpi:
    """Return the share of high quality now, or beside it that of the last day with sound flags."""
    answer = gold.lead_quality_distribution
    graded = answer.rows["current_lead_count"]
    now, leads = share(graded.iloc[0], graded.sum()), f"{graded.iloc[0]:,} leads, as they are now"
    before = last_sound_quality(gold.lead_quality_per_day.rows, gold.anomalies)
    if before is None:
        return Kpi(now, "are of high quality", leads, _days_note(answer))
    moment, quality = before
    label = f"were of high quality on the last day with sound flags ({moment})"
    return Kpi(quality, label, f"now: {now}, {leads}", _days_note(answer))


def _days_note(answer: Answer) -> str:
    """Return the note of a headline number: the notice below says what is wrong with the days."""
    return f"{ranges(answer.affected_days)} should not be trusted" if answer.affected_days else ""


def _block(answer: Answer, chart: charts.Chart | None = None, alt: str = "") -> Block:
    is_drawn = chart is not None and not answer.rows.empty
    return Block(
        answer.question,
        answer.sentence,
        answer.note,
        _table(answer) if len(answer.rows) else None,
        _as_data_uris(chart, answer) if chart and is_drawn else {},
        f"{alt} Affected days are marked. The table below contains the numbers."
        if answer.affected_days
        else f"{alt} The table below contains the numbers.",
    )


def _as_data_uris(chart: charts.Chart, answer: Answer) -> dict[str, str]:
    wide, narrow = (
        charts.as_svg(chart(answer.rows, narrow=narrow, affected_days=answer.affected_days)) for narrow in (False, True)
    )
    drawn = {"light": wide, "dark": charts.in_dark(wide), "light_narrow": narrow, "dark_narrow": charts.in_dark(narrow)}
    return {name: _data_uri(svg) for name, svg in drawn.items()}


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


MOST_ROWS = 100
"""Maximum number of rows per table on the page."""


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
    return f"{counted(len(days), 'snapshot')}, {words.day(first)} to {words.day(last)}"


def _last_run(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the latest run that ended."""
    ended = runs[runs["ended_at"].notna()]
    if ended.empty:
        return {}
    last = ended.iloc[0]
    return {"id": last["run_id"], "status": last["status"], "ended": _moment(last["ended_at"])}


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
