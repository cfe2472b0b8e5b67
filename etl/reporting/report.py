"""The report: lead quality and data quality on one self-contained HTML page (`python main.py --report`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import __version__
from etl.reporting import charts, silver_analysis, words
from etl.reporting.analysis import analyse_gold
from etl.reporting.answers import FUNNEL, NULL_SHARES, ROWS, SALES, Anomalies, Answer, ranges
from etl.reporting.daily import last_sound_quality, per_day
from etl.reporting.drawing import Chart, as_svg, themed
from etl.reporting.html_tables import csv_uri, render_template, table_of
from etl.reporting.reading import Read, reading
from etl.reporting.runs import ended_runs, moment
from etl.reporting.theme import DARK, LIGHT
from etl.reporting.words import counted, share
from etl.utils.errors import HOST_UID_HINT, OutputError
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import require_tables
from etl.warehouse.tables import GOLD_MATCHING
from etl.warehouse.transactions import transaction

if TYPE_CHECKING:
    import pandas as pd

REPORT = Path("reports/lead_quality.html")
Answers = Mapping[str, Answer]

SECTIONS = {
    "Quality": ["week_on_week", "lead_quality_distribution", "new_high_quality_leads_per_day", "lead_quality_per_day"],
    "Leads": ["leads_per_day", "first_weeks", "leads_that_left", "status_changes"],
    "Conversion": ["conversion_funnel", "days_to_stage", "disposition_groups", "conversion_funnel_per_state"],
    "Matching and data quality": [
        *("match_scenarios", "suspect_hashes", "suspect_shares", "data_anomalies", "run_checks", "refused_files"),
        *("rejected_rows", "source_drift", "rows_per_day"),
    ],
}
"""Title of a section → names of its questions, in order."""
ALWAYS_OPEN = 10
"""Maximum number of rows in a table that is open by default. Tables below a chart are folded."""
MOST_ROWS = 100
"""Maximum number of rows per table on the page. The CSV file has all of them."""


@dataclass(frozen=True)
class Kpi:
    """A headline number with its label, a reference value, and a note on days that should not be trusted."""

    number: str
    label: str
    reference: str
    note: str = ""


def write_report(settings: Settings, target: Path = REPORT) -> Path:
    """Render the report, and replace the file atomically. Returns the path of the file.

    Reads all layers and schema meta, for which bi_reader has no privileges; analyst has. Creates the folder if it does
    not exist.

    Raises:
        CheckFailedError: tables or views of gold do not exist yet.
        PostgresError: the server or the connection reports an error.
        OutputError: the file cannot be written.
    """
    with transaction(settings) as db:
        require_tables(
            db, GOLD_MATCHING, "gold.suspect_matches", "gold.lead_outcomes", "gold.status_changes", created_by_step=1
        )
    with reading(settings) as read:
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
            hint=f"check that the folder is writable and the disk is not full; {HOST_UID_HINT}",
        ) from error


def render(read: Read, *, created: datetime) -> str:
    """Render the report as HTML from the query results that `read` returns."""
    gold, anomalies = analyse_gold(read), Anomalies(read("data_anomalies"))
    drift = silver_analysis.source_drift(read("source_cells_per_day"), read("unknown_columns"))
    answers = gold | {
        "source_drift": anomalies.mark(drift, NULL_SHARES),
        "rejected_rows": anomalies.mark(silver_analysis.rejected_rows(read("rejected_rows")), ROWS),
        "rows_per_day": silver_analysis.rows_per_day(read("rows_per_day"), anomalies),
    }
    return render_template(
        "report.html.jinja",
        period=_period(gold["leads_per_day"].rows),
        freshness=gold["freshness"],
        notice=gold["data_anomalies"].notice,
        figures=_headline(gold, anomalies),
        sections={title: [_block(name, answers[name]) for name in names] for title, names in SECTIONS.items()},
        colours={"light": asdict(LIGHT), "dark": asdict(DARK)},
        ended_runs=ended_runs(read("last_runs")),
        created=created,
        moment=moment,
        version=__version__,
        always_open=ALWAYS_OPEN,
    )


def _headline(gold: Answers, anomalies: Anomalies) -> list[Kpi]:
    days, trend = gold["leads_per_day"], gold["new_high_quality_leads_per_day"]
    if days.rows.empty:
        return []
    last = days.rows.iloc[-1]
    funnel, matches = gold["conversion_funnel"], gold["match_scenarios"]
    stages, rows = funnel.rows["lead_count"], matches.rows["row_count"]
    new = per_day(trend.rows, "new_high_quality_leads", trend.affected_days)
    left_out = ", without affected days" if trend.affected_days else ""
    return [
        Kpi(
            f"{last['total_leads']:,}",
            f"{'lead' if last['total_leads'] == 1 else 'leads'} in the latest snapshot",
            f"of {last['cumulative_leads']:,} ever seen",
            _days_note(days),
        ),
        *(
            Kpi(
                share(stages.iloc[stage], stages.iloc[0]),
                label,
                f"{stages.iloc[stage]:,} of {counted(stages.iloc[0], 'lead')} ever seen, by their latest row",
                _days_note(anomalies.mark(funnel, metrics)),
            )
            for stage, label, metrics in ((1, "had an appointment", FUNNEL), (3, "were sold", SALES))
        ),
        Kpi(
            share(rows.iloc[0], rows.sum()),
            "of rows match on both hashes",
            f"{counted(rows.iloc[3], 'row')} without a lead",
            _days_note(matches),
        ),
        _quality(gold, anomalies),
        Kpi(
            f"{new['count'].sum() / new['covered_days'].sum():.1f}" if len(new) else "-",
            "became high quality a day, on average",
            f"{counted(new['count'].sum(), 'lead')} after the first day{left_out}"
            if len(new)
            else "no unaffected day after the first"
            if len(trend.rows) > 1
            else "known from the second snapshot on",
            _days_note(trend),
        ),
    ]


def _quality(gold: Answers, anomalies: Anomalies) -> Kpi:
    """Return the share of high-quality leads: now or, if `last_sound_quality` returns a day, on that day."""
    answer = gold["lead_quality_distribution"]
    graded = answer.rows["current_lead_count"]
    now = share(graded.iloc[0], graded.sum())
    leads = f"{graded.iloc[0]:,} of {counted(graded.sum(), 'lead')} ever seen"
    before = last_sound_quality(gold["lead_quality_per_day"].rows, anomalies)
    if before is None:
        return Kpi(now, "are of high quality", leads, _days_note(answer))
    moment, quality = before
    label = f"were of high quality on the last day with sound flags ({moment})"
    return Kpi(quality, label, f"of the leads in that snapshot; now: {now}, {leads}", _days_note(answer))


def _days_note(answer: Answer) -> str:
    """Return the note of a headline number; empty if no day is affected. The notice below the numbers has details."""
    return f"{ranges(answer.affected_days)} should not be trusted" if answer.affected_days else ""


def _block(name: str, answer: Answer) -> dict[str, Any]:
    """Return the template variables of a question. `charts`: `wide` and `narrow` → SVG; empty if it has no chart."""
    chart: Chart | None = getattr(charts, name, None) if len(answer.rows) else None
    return {
        "name": name,
        "answer": answer,
        "table": table_of(answer.question, answer.rows, MOST_ROWS) if len(answer.rows) else None,
        "csv": csv_uri(answer.rows),
        "charts": {width: _svg(chart, name, answer, width) for width in ("wide", "narrow")} if chart else {},
        "alt": f"{chart.alt} The table below contains the numbers." if chart else "",
    }


def _svg(chart: Chart, name: str, answer: Answer, width: str) -> str:
    figure = chart(answer.rows, narrow=width == "narrow", affected_days=answer.affected_days)
    return themed(as_svg(figure, salt=f"{name} {width}"))


def _period(days: pd.DataFrame) -> str:
    if days.empty:
        return "No snapshot yet"
    first, last = days["_partition_date"].iloc[0], days["_partition_date"].iloc[-1]
    until = f" to {words.day(last)}" if last > first else ""
    return f"{counted(len(days), 'snapshot')}, {words.day(first)}{until}"
