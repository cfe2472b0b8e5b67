"""Charts of the analysis: each draws the rows of one answer of `analysis`. Knows matplotlib, no database.

A chart comes wide or narrow, so that a phone shows it at the size it was drawn for, and in a light and a dark theme.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from textwrap import fill
from typing import TYPE_CHECKING, Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from etl.reporting.answers import Days, ranges
from etl.reporting.states import FEW, HIGHEST, UNCLEAR
from etl.reporting.theme import DARK as DARK
from etl.reporting.theme import LIGHT as LIGHT
from etl.reporting.theme import Theme as Theme
from etl.reporting.theme import style
from etl.reporting.words import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WIDE, NARROW = 7.6, 3.6
"""Inches. A narrow one is for phones: 346 pixels."""

Draw = Callable[[Figure, "pd.DataFrame"], None]


class Chart(Protocol):
    """Draws the rows of one answer, in the light theme: `chart(rows)`, `chart(rows, narrow=True)`.

    A chart by day shades the affected days; any other names them.
    """

    def __call__(self, rows: pd.DataFrame, *, narrow: bool = False, affected_days: Days = ()) -> Figure: ...


class ChartFigure(Figure):
    """A figure that knows which days should not be trusted."""

    affected_days: Days = ()


def chart(height: float) -> Callable[[Draw], Chart]:
    """Have a function that draws on a figure make the figure, too, so many inches high."""

    def decorate(draw: Draw) -> Chart:
        def drawn(rows: pd.DataFrame, *, narrow: bool = False, affected_days: Days = ()) -> Figure:
            with mpl.rc_context(style(LIGHT, narrow)):
                figure = ChartFigure(figsize=(NARROW if narrow else WIDE, height), layout="constrained")
                figure.affected_days = affected_days
                if rows.empty:
                    figure.text(0.5, 0.5, "nothing to show yet", ha="center", va="center", color=LIGHT.dim)
                else:
                    draw(figure, rows)
                    _name_affected_days(figure)
                return figure

        return drawn

    return decorate


def as_svg(figure: Figure) -> str:
    """The chart as SVG: the same rows give the same bytes."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "homebuddy"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def in_dark(svg: str) -> str:
    """The same chart in the dark theme: half the work of drawing it again."""
    for field in fields(Theme):
        svg = svg.replace(getattr(LIGHT, field.name), getattr(DARK, field.name))
    return svg


# --- gold -----------------------------------------------------------------------------------------


@chart(2.9)
def match_scenarios(figure: Figure, rows: pd.DataFrame) -> None:
    """All rows in one bar; below, at a scale of their own, those that do not match on both hashes."""
    counts = dict(zip(rows["scenario"], rows["row_count"], strict=True))
    total = sum(counts.values())
    rest = {_SCENARIOS[name]: count for name, count in counts.items() if name != "both"}
    whole, below = figure.subplots(2, 1, height_ratios=[1, 2.6])
    _title(figure, f"Match on both: {counts['both']:,} of {total:,}")
    whole.barh([0], [counts["both"]], color=LIGHT.good)
    whole.barh([0], [total - counts["both"]], left=[counts["both"]], color=LIGHT.fair)
    whole.set_xlim(0, max(total, 1))
    whole.set_axis_off()
    below.set_title(f"The other {total - counts['both']:,}")
    _named_bars(below, list(rest), list(rest.values()), LIGHT.fair)


_SCENARIOS = {"email_only": "e-mail alone", "phone_only": "phone alone", "none": "no lead"}


@chart(4.4)
def leads_per_day(figure: Figure, rows: pd.DataFrame) -> None:
    """Leads of each snapshot, and all ever seen; below, the new ones of each day but the first."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
    days = rows["_partition_date"]
    for column, label, colour in (
        ("cumulative_leads", "ever seen", LIGHT.dim),
        ("total_leads", "in the snapshot", LIGHT.accent),
    ):
        line = _with_gaps(days, rows[column])
        above.plot(line.index, line, marker="o", markersize=3, color=colour, label=label)
    above.set_title("Leads")
    above.legend(loc="upper left", bbox_to_anchor=(0, 0.72))
    above.set_ylim(bottom=0)
    _by_day(above, days)
    below.set_title("New leads, without the first day")
    below.bar(days.iloc[1:], rows["new_leads"].iloc[1:], color=LIGHT.good, width=0.75)
    _by_day(below, days)


@chart(2.1)
def lead_quality_distribution(figure: Figure, rows: pd.DataFrame) -> None:
    """Leads as they are now, by quality."""
    axes = figure.subplots()
    _title(figure, "Leads as they are now")
    names = [str(flag).removesuffix(" Quality") for flag in rows["lead_quality_flag"]]
    counts = [int(count) for count in rows["current_lead_count"]]
    labels = [f"{count:,} · {share(count, sum(counts))}" for count in counts]
    _named_bars(axes, names, counts, [LIGHT.good, LIGHT.fair, LIGHT.poor], labels)


@chart(3.2)
def lead_quality_per_day(figure: Figure, rows: pd.DataFrame) -> None:
    """Leads of high and of medium quality in each snapshot. The others are of low quality."""
    axes = figure.subplots()
    _title(figure, "High and medium quality, per snapshot")
    parts = {"high": (rows["High Quality"], LIGHT.good), "medium": (rows["Medium Quality"], LIGHT.fair)}
    _stacked_bars_by_day(axes, rows["_partition_date"], parts)


@chart(3.4)
def new_high_quality_leads_per_day(figure: Figure, rows: pd.DataFrame) -> None:
    """The trend: leads on their first high-quality day, without the first snapshot, in which all are new."""
    axes = figure.subplots()
    later = rows.iloc[1:]
    _title(figure, "New high-quality leads per day" + ("" if _is_narrow(figure) else ", without the first day"))
    if later.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "a trend takes two snapshots", ha="center", va="center", transform=axes.transAxes)
        return
    days, counts = later["_partition_date"], later["new_high_quality_leads"]
    line = _with_gaps(days, counts)
    axes.fill_between(line.index, line, color=LIGHT.good, alpha=0.12)
    axes.plot(line.index, line, marker="o", color=LIGHT.good, linewidth=2)
    is_sound = ~days.isin(list(_affected_days(figure)))
    if is_sound.any():
        mean = float(counts[is_sound].mean())
        label = f"mean\n{mean:.1f}" if is_sound.all() else f"mean of\nsound days\n{mean:.1f}"
        axes.axhline(mean, color=LIGHT.dim, linewidth=1, linestyle=(0, (4, 4)))
        axes.text(1.01, mean, label, transform=axes.get_yaxis_transform(), va="center", color=LIGHT.dim)
    if not _is_narrow(figure) and len(later) <= MOST_LABELS:
        neighbours = (counts.shift(1, fill_value=0) + counts.shift(-1, fill_value=0)) / 2
        for moment, count, beside_it in zip(days, counts, neighbours, strict=True):
            is_low = 0 < count < beside_it  # its number goes where the line is not
            axes.annotate(
                f"{count}",
                (moment, count),
                xytext=(0, -8 if is_low else 8),
                textcoords="offset points",
                ha="center",
                va="top" if is_low else "bottom",
                bbox={"facecolor": LIGHT.background, "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            )
    axes.set_ylim(0, max(1.0, float(counts.max()) * 1.2))
    _by_day(axes, days)


MOST_LABELS = 31
"""So many values of days are written beside their points: more would touch."""


@chart(2.6)
def conversion_funnel(figure: Figure, rows: pd.DataFrame) -> None:
    """Leads that reached each stage, or a later one."""
    axes = figure.subplots()
    _title(figure, "Leads that reached each stage")
    counts = [int(count) for count in rows["lead_count"]]
    labels = [f"{counts[0]:,}", *(f"{count:,} · {share(count, counts[0])}" for count in counts[1:])]
    colours = [LIGHT.poor, LIGHT.accent, LIGHT.fair, LIGHT.good]
    _named_bars(axes, list(rows["stage"]), counts, colours, labels)


@chart(3.4)
def conversion_funnel_per_state(figure: Figure, rows: pd.DataFrame) -> None:
    """Leads that were sold, of all, in the states with the most leads, with 95 % intervals. Few leads: grey."""
    axes = figure.subplots()
    _title(figure, "Sold, of all leads" + ("" if _is_narrow(figure) else ", with 95 % intervals"))
    shown = rows.head(8)
    rates = shown["conversion_rate"].astype(float)
    labels = [
        f"{share(sold, leads)} of {leads:,}" + ("" if _is_narrow(figure) else _COMPARISONS.get(comparison, ""))
        for sold, leads, comparison in zip(shown["sale_count"], shown["lead_count"], shown["comparison"], strict=True)
    ]
    colours = [
        LIGHT.poor if comparison == FEW else LIGHT.good if comparison == HIGHEST else LIGHT.accent
        for comparison in shown["comparison"]
    ]
    _named_bars(axes, list(shown["state"]), list(rates), colours)
    for text in list(axes.texts):
        text.remove()  # labels go to the end of the intervals
    ends = shown["highest_rate"].where(shown["comparison"] != FEW, rates)  # few leads: too wide to draw
    spread = [(rates - shown["lowest_rate"]).where(shown["comparison"] != FEW, 0), ends - rates]
    axes.errorbar(rates, range(len(shown)), xerr=spread, fmt="none", ecolor=LIGHT.text, elinewidth=1, capsize=3)
    longest = max(float(ends.max()), 1e-9)
    for position, (end, label) in enumerate(zip(ends, labels, strict=True)):
        axes.text(float(end) + longest * 0.02, position, label, va="center")
    axes.set_xlim(0, longest * (1.9 if _is_narrow(figure) else 1.8))


_COMPARISONS = {FEW: ": few leads", HIGHEST: ": highest", UNCLEAR: ": no clear difference"}


@chart(3.6)
def status_changes(figure: Figure, rows: pd.DataFrame) -> None:
    """The most frequent changes of disposition."""
    axes = figure.subplots()
    _title(figure, "Most frequent changes")
    shown = rows.head(10)
    joint = " →\n" if _is_narrow(figure) else " → "
    shown = shown.head(7) if _is_narrow(figure) else shown
    names = [f"{before}{joint}{after}" for before, after in zip(shown["dispo_before"], shown["dispo"], strict=True)]
    _named_bars(axes, names, [int(count) for count in shown["change_count"]], LIGHT.accent)


@chart(2.6)
def suspect_hashes(figure: Figure, rows: pd.DataFrame) -> None:
    """Rows per suspect hash, the most frequent hashes first."""
    axes = figure.subplots()
    _title(figure, "Rows with a suspect hash")
    shown = rows.head(6)
    names = [f"{value[:8]}… {kind}" for value, kind in zip(shown["hash"], shown["kind"], strict=True)]
    _named_bars(axes, names, [int(count) for count in shown["row_count"]], LIGHT.fair)


# --- silver ---------------------------------------------------------------------------------------


@chart(3.0)
def rows_per_day(figure: Figure, rows: pd.DataFrame) -> None:
    """Rows of each day, and those that were rejected."""
    axes = figure.subplots()
    _title(figure, "Rows per day")
    parts = {"clean": (rows["row_count"], LIGHT.accent), "rejected": (rows["rejected_count"], LIGHT.fair)}
    _stacked_bars_by_day(axes, rows["_partition_date"], parts)


@chart(4.4)
def null_shares(figure: Figure, rows: pd.DataFrame) -> None:
    """Day by day, which columns are filled (light) and which are empty (dark)."""
    axes = figure.subplots()
    _title(figure, "Share of rows without a value")
    colours = LinearSegmentedColormap.from_list("emptiness", [LIGHT.grid, LIGHT.accent])
    rows = rows.reindex(columns=pd.date_range(rows.columns.min(), rows.columns.max()))  # a missing day is a gap
    shown = axes.imshow(rows.to_numpy(dtype=float), aspect="auto", cmap=colours, vmin=0, vmax=1)
    days = list(pd.DatetimeIndex(rows.columns))
    for position in (days.index(moment) for moment in _affected_days(figure) if moment in days):
        axes.axvspan(position - 0.5, position + 0.5, fill=False, edgecolor=LIGHT.fair, linewidth=1.5)
    axes.set_yticks(range(len(rows.index)), [str(name) for name in rows.index])
    every = max(1, -(-len(rows.columns) // (3 if _is_narrow(figure) else 7)))
    positions = range(0, len(rows.columns), every)
    axes.set_xticks(positions, [f"{rows.columns[position]:%d %b}" for position in positions])
    axes.spines["bottom"].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, format=FuncFormatter(lambda value, _: f"{value:.0%}"), fraction=0.04)
    bar.outline.set_visible(False)


@chart(3.0)
def rejected_rows(figure: Figure, rows: pd.DataFrame) -> None:
    """Rejected rows by reason."""
    axes = figure.subplots()
    _title(figure, "Rejected rows by reason")
    shown = rows.head(8)
    names = [reason if len(reason) <= 44 else f"{reason[:43]}…" for reason in shown["reason"]]
    _named_bars(axes, names, [int(count) for count in shown["row_count"]], LIGHT.fair)


# --- parts ----------------------------------------------------------------------------------------


def _is_narrow(figure: Figure) -> bool:
    return figure.get_figwidth() < WIDE


def _affected_days(figure: object) -> Days:
    return figure.affected_days if isinstance(figure, ChartFigure) else ()


def _name_affected_days(figure: ChartFigure) -> None:
    """Say below the chart which days are affected."""
    if figure.affected_days:
        text = f"affected days: {ranges(figure.affected_days)}"
        width = 46 if _is_narrow(figure) else 90
        figure.supxlabel(fill(text, width), x=0.01, ha="left", fontsize="small", color=LIGHT.dim)


def _with_gaps(days: pd.Series, values: pd.Series) -> pd.Series:
    """Return the values by day, NaN on days without a file, so that a line breaks there."""
    return values.astype(float).set_axis(days).reindex(pd.date_range(days.min(), days.max()))


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left")


def _named_bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    colours: str | Sequence[str],
    labels: Sequence[str] | None = None,
) -> None:
    """Horizontal bars, the first one on top, each with its value at its end."""
    positions = range(len(names))
    bars = axes.barh(positions, values, color=colours, height=0.7)
    axes.bar_label(bars, labels or [f"{value:,}" for value in values], padding=4)
    axes.set_yticks(positions, names)
    axes.tick_params(axis="y", labelcolor=mpl.rcParams["text.color"])
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)  # the first on top; a bar or two are no thicker than three
    axes.set_xticks([])
    axes.set_xlim(0, max(*values, 1e-9) * 1.35)  # room for the longest bar's value
    axes.spines["bottom"].set_visible(False)


def _stacked_bars_by_day(axes: Axes, days: pd.Series, parts: Mapping[str, tuple[pd.Series, str]]) -> None:
    """A bar for each day, of parts that stand on each other: label → counts and colour, the lowest first."""
    top = np.zeros(len(days))
    for label, (counts, colour) in parts.items():
        axes.bar(days, counts, bottom=top, color=colour, width=0.75, label=label)
        top = top + counts
    axes.set_ylim(0, float(top.max()) * 1.25)  # room for the legend
    axes.legend(loc="upper left", ncols=len(parts))
    _by_day(axes, days)


def _by_day(axes: Axes, days: pd.Series) -> None:
    axes.grid(visible=True)
    first, last = days.iloc[0], days.iloc[-1]
    for moment in _affected_days(axes.figure):
        if first <= moment <= last:
            position = float(date2num(moment))
            axes.axvspan(position - 0.5, position + 0.5, color=LIGHT.fair, alpha=0.22, linewidth=0, zorder=0)
    every = max(1, -(-(last - first).days // 6))
    ticks = [first + timedelta(days=passed) for passed in range(0, (last - first).days + 1, every)]
    axes.set_xticks(ticks, [f"{tick:%d %b}" for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
