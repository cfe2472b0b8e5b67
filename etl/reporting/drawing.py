"""Building blocks of the charts: figures in two widths, SVG output, bars, time axes, and values shown on hover."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from etl.reporting.answers import Days, ranges
from etl.reporting.theme import LIGHT, Theme, style
from etl.reporting.words import day

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


WIDE, NARROW = 7.6, 3.6
"""Widths of a chart in inches. NARROW is for phones: 346 pixels."""


class ChartFigure(Figure):
    """A matplotlib figure with the days that should not be trusted, and the texts that its parts show on hover."""

    affected_days: Days = ()

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.values: list[str] = []

    @property
    def is_narrow(self) -> bool:
        return self.get_figwidth() < WIDE

    def titled_axes(self, title: str) -> Axes:
        """Write the title, and return axes that fill the rest of the figure."""
        self.title(title)
        return self.subplots()

    def title(self, text: str) -> None:
        """Write the title; in a narrow chart, on several lines if it is long."""
        self.suptitle(fill(text, 46) if self.is_narrow else text, x=0.01, ha="left")

    def show_on_hover(self, part: Artist, text: str) -> None:
        part.set_gid(f"value-{len(self.values)}")
        self.values.append(text)


Draw = Callable[[ChartFigure, "pd.DataFrame"], None]


@dataclass(frozen=True)
class Chart:
    """Draws the rows of one answer in the light theme when it is called: `chart(rows)`, `chart(rows, narrow=True)`.

    Every chart with rows lists the affected days below the drawing; a chart with a time axis also marks them.
    """

    draw: Draw
    height: float
    """Height in inches."""
    alt: str
    """Description for screen readers."""

    def __call__(self, rows: pd.DataFrame, *, narrow: bool = False, affected_days: Days = ()) -> ChartFigure:
        with mpl.rc_context(style(narrow)):
            figure = ChartFigure(figsize=(NARROW if narrow else WIDE, self.height), layout="constrained")
            figure.affected_days = affected_days
            if rows.empty:
                figure.text(0.5, 0.5, "nothing to show yet", ha="center", va="center", color=LIGHT.dim)
            else:
                self.draw(figure, rows)
                _name_affected_days(figure)
            return figure


def chart(height: float, alt: str) -> Callable[[Draw], Chart]:
    """Return a decorator that turns a drawing function into a `Chart`."""
    return lambda draw: Chart(draw, height, alt)


def as_svg(figure: ChartFigure, salt: str = "homebuddy") -> str:
    """Return the chart as an SVG element. Text stays text, and equal rows give equal bytes.

    Texts of `show_on_hover` become titles of their parts.

    Args:
        salt: determines the ids in the SVG; must differ between the charts of a page.
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = "<svg " + text.getvalue().partition("<svg ")[2]
    for number, value in enumerate(figure.values):
        svg = svg.replace(f'<g id="value-{number}">', f'<g pointer-events="all"><title>{escape(value)}</title>')
    return re.sub(r'<g id="[^"]*"', "<g", svg)  # these ids would not be unique on a page with several charts


def themed(svg: str) -> str:
    """Return the SVG with CSS variables (`--chart-text` …) instead of the colours of the light theme."""
    for field in fields(Theme):
        svg = svg.replace(getattr(LIGHT, field.name), f"var(--chart-{field.name})")
    return svg


def _name_affected_days(figure: ChartFigure) -> None:
    """List the affected days below the chart."""
    if figure.affected_days:
        days, count = ranges(figure.affected_days), len(figure.affected_days)
        text = f"affected days: {days if len(days) <= LONGEST_LIST else f'{count} from {days[:10]} to {days[-10:]}'}"
        width = 46 if figure.is_narrow else 90
        figure.supxlabel(fill(text, width), x=0.01, ha="left", fontsize="small", color=LIGHT.dim)


LONGEST_LIST = 200
"""Maximum number of characters of a list of affected days below a chart."""


def named_bars(
    axes: Axes,
    names: Collection[str],
    values: Collection[float],
    colours: str | Sequence[str],
    labels: Sequence[str] | None = None,
) -> None:
    """Draw horizontal bars, the first bar on top, each with a label at its end: by default, its value."""
    figure, positions = cast(ChartFigure, axes.figure), range(len(names))
    # Values of the CRM may contain control characters, which XML does not allow.
    names = ["".join(sign for sign in name if sign.isprintable() or sign == "\n") for name in names]
    labels = labels or [f"{value:,}" for value in values]
    bars = axes.barh(positions, list(values), color=colours, height=0.7)
    axes.bar_label(bars, labels, padding=4)
    for bar, name, label in zip(bars, names, labels, strict=True):
        figure.show_on_hover(bar, f"{' '.join(name.split())}: {label}")
    axes.set_yticks(positions, names)
    axes.tick_params(axis="y", labelcolor=mpl.rcParams["text.color"])
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)  # the first bar on top; one or two bars are as thick as three
    axes.set_xticks([])
    axes.set_xlim(0, max(*values, 1e-9) * 1.35)  # room for the label of the longest bar
    axes.spines["bottom"].set_visible(False)


def stacked_bars_by_day(
    figure: ChartFigure, title: str, days: pd.Series, parts: Mapping[str, tuple[pd.Series, str]]
) -> None:
    """Draw one stacked bar per day.

    Args:
        parts: label → counts per day and colour, from the bottom of the bar to the top.
    """
    axes = figure.titled_axes(title)
    top = np.zeros(len(days))
    for label, (counts, colour) in parts.items():
        axes.bar(days, counts, bottom=top, color=colour, width=0.75, label=label)
        top = top + counts
    axes.set_ylim(0, max(float(top.max()), 1.0) * 1.25)  # room for the legend
    axes.legend(loc="upper left", ncols=len(parts))
    by_day(axes, days, {label: counts for label, (counts, _) in parts.items()})


def day_labels(days: Sequence[datetime]) -> list[str]:
    """Return labels for days on a time axis: `09 Oct`, or `Oct 2024` if they span more than a year."""
    layout = "%d %b" if (days[-1] - days[0]).days <= 365 else "%b %Y"
    return [day.strftime(layout) for day in days]


def by_day(axes: Axes, days: pd.Series, values: Mapping[str, pd.Series]) -> None:
    """Draw the common parts of charts with a time axis: shaded affected days, ticks, and the day's values on hover."""
    axes.grid(visible=True)
    figure = cast(ChartFigure, axes.figure)
    first, last = days.iloc[0], days.iloc[-1]
    for moment in figure.affected_days:
        if first <= moment <= last:
            position = float(date2num(moment))
            axes.axvspan(position - 0.5, position + 0.5, color=LIGHT.fair, alpha=0.22, linewidth=0, zorder=0)
    every = max(1, -(-(last - first).days // (4 if figure.is_narrow else 6)))
    ticks = [first + timedelta(days=passed) for passed in range(0, (last - first).days + 1, every)]
    axes.set_xticks(ticks, day_labels(ticks))
    axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10], integer=True)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    for position, moment in enumerate(days):
        band = Rectangle(
            (float(date2num(moment)) - 0.5, 0), 1, 1, transform=axes.get_xaxis_transform(), alpha=0, zorder=10
        )
        axes.add_artist(band)
        shown = ", ".join(f"{label} {counts.iloc[position]:,}" for label, counts in values.items())
        figure.show_on_hover(band, f"{day(moment)}: {shown}")
