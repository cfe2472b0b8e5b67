"""Draw the charts of the analysis: each function draws the rows of one answer and has the name of its question.

Each chart can be drawn wide or, for phones, narrow.
"""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch

from etl.reporting.daily import per_day
from etl.reporting.drawing import ChartFigure, by_day, chart, day_labels, named_bars, stacked_bars_by_day
from etl.reporting.outcomes import FEW, HIGHEST, NO_STATE, UNCLEAR
from etl.reporting.theme import LIGHT
from etl.reporting.weeks import NOT_COMPARED
from etl.reporting.words import share

# --- gold -----------------------------------------------------------------------------------------


@chart(2.9, "Bars: rows that match on both hashes and, on another scale, rows that do not.")
def match_scenarios(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw one bar of all rows, divided by whether both hashes match; below, on another scale, the other scenarios."""
    counts = dict(zip(rows["scenario"], rows["row_count"], strict=True))
    total = sum(counts.values())
    rest = {_SCENARIOS[name]: count for name, count in counts.items() if name != "both"}
    whole, below = figure.subplots(2, 1, height_ratios=[1, 2.6])
    figure.title(f"Match on both: {counts['both']:,} of {total:,}")
    whole.barh([0], [counts["both"]], color=LIGHT.good)
    whole.barh([0], [total - counts["both"]], left=[counts["both"]], color=LIGHT.fair)
    whole.set_xlim(0, max(total, 1))
    whole.set_axis_off()
    below.set_title(f"The other {total - counts['both']:,}")
    named_bars(below, rest.keys(), rest.values(), LIGHT.fair)


_SCENARIOS = {"email_only": "e-mail alone", "phone_only": "phone alone", "none": "no lead"}


@chart(4.4, "Lines: leads in each snapshot and leads ever seen. Bars: new leads per day, without the first day.")
def leads_per_day(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the leads in each snapshot and the leads ever seen; below, new leads per day, without the first day.

    Each bar spans the days since the previous snapshot; its height is the number of new leads, divided by these days.
    """
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
    days = rows["_partition_date"]
    for column, label, colour in (
        ("cumulative_leads", "ever seen", LIGHT.dim),
        ("total_leads", "in the snapshot", LIGHT.accent),
    ):
        line = rows[column].set_axis(days).asfreq("D")  # no line across missing days
        above.plot(line.index, line, marker=_marker(days), markersize=4, color=colour, label=label)
    above.set_title("Leads")
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    above.set_ylim(0, max(1.0, float(rows["cumulative_leads"].max()) * 1.1))
    by_day(above, days, {"in the snapshot": rows["total_leads"], "ever seen": rows["cumulative_leads"]})
    new = per_day(rows, "new_leads", ())
    if new.empty:
        below.set_axis_off()
        return
    below.set_title("New leads per day, without the first day")
    centre = new["_partition_date"] - pd.to_timedelta((new["covered_days"] - 1) / 2, unit="D")
    below.bar(centre, new["rate"], width=new["covered_days"] - 0.25, color=LIGHT.good)
    below.set_ylim(0, max(1.0, float(new["rate"].max()) * 1.1))
    by_day(below, days, {"new": rows["new_leads"]})


def _marker(days: pd.Series) -> str | None:
    """Return the marker of the points of a line; None for so many consecutive days that the markers would touch."""
    return "o" if len(days) <= 60 or (days.diff().dt.days > 1).any() else None


@chart(2.1, "Bars: leads by quality.")
def lead_quality_distribution(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads of each quality, each lead by its latest snapshot."""
    names = rows["lead_quality_flag"].str.removesuffix(" Quality")
    counts = rows["current_lead_count"]
    labels = [f"{count:,} · {share(count, counts.sum())}" for count in counts]
    named_bars(figure.titled_axes("Leads as they are now"), names, counts, [LIGHT.good, LIGHT.fair, LIGHT.poor], labels)


@chart(3.2, "Stacked bars: leads of high and of medium quality by day.")
def lead_quality_per_day(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads of high and of medium quality in each snapshot. Low quality is left out."""
    parts = {"high": (rows["High Quality"], LIGHT.good), "medium": (rows["Medium Quality"], LIGHT.fair)}
    stacked_bars_by_day(figure, "High and medium quality, per snapshot", rows["_partition_date"], parts)


@chart(3.4, "Line: new high-quality leads per day, without the first day, with their mean.")
def new_high_quality_leads_per_day(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw how many leads per day become high quality for the first time, and the mean.

    Each value is a rate: the count of a snapshot, divided by the days since the previous snapshot. The first snapshot,
    in which all leads are new, is left out; the mean also leaves out affected days, and the snapshot after each of them
    (see `daily.per_day`).
    """
    axes = figure.titled_axes("New high-quality leads per day, without the first day")
    later = per_day(rows, "new_high_quality_leads", ())
    if later.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "a trend requires two snapshots", ha="center", va="center", transform=axes.transAxes)
        return
    days, rates = later["_partition_date"], later["rate"]
    line = rates.set_axis(days).asfreq("D")
    axes.fill_between(line.index, line, color=LIGHT.good, alpha=0.12)
    axes.plot(line.index, line, marker=_marker(days), color=LIGHT.good, linewidth=2)
    sound_days = per_day(rows, "new_high_quality_leads", figure.affected_days)
    since = sound_days["_partition_date"] - pd.to_timedelta(sound_days["covered_days"] - 1, unit="D")
    axes.hlines(sound_days["rate"], since, sound_days["_partition_date"], color=LIGHT.good, linewidth=2)
    if len(sound_days):
        mean = sound_days["count"].sum() / sound_days["covered_days"].sum()
        label = f"mean\n{mean:.1f}" if len(sound_days) == len(later) else f"mean of\nsound days\n{mean:.1f}"
        axes.axhline(mean, color=LIGHT.dim, linewidth=1, linestyle=(0, (4, 4)))
        axes.text(1.01, mean, label, transform=axes.get_yaxis_transform(), va="center", color=LIGHT.dim)
    if not figure.is_narrow and len(later) <= MOST_LABELS:
        neighbours = (rates.shift(1, fill_value=0) + rates.shift(-1, fill_value=0)) / 2
        for moment, rate, beside_it in zip(days, rates, neighbours, strict=True):
            is_low = 0 < rate < beside_it  # the line is above the point, so the label goes below
            axes.annotate(
                f"{rate:.0f}" if rate == round(rate) else f"{rate:.1f}",
                (moment, rate),
                xytext=(0, -8 if is_low else 8),
                textcoords="offset points",
                ha="center",
                va="top" if is_low else "bottom",
                bbox={"facecolor": LIGHT.background, "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            )
    axes.set_ylim(0, max(1.0, float(rates.max()) * 1.2))
    by_day(axes, days, {"became high quality": later["count"]})


MOST_LABELS = 31
"""Maximum number of days for which values are shown beside their points; more would overlap."""


@chart(2.6, "Bars: leads that reached each stage.")
def conversion_funnel(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads that reached each stage of the funnel, or a later one."""
    axes = figure.titled_axes("Leads that reached each stage")
    leads, *others = counts = list(rows["lead_count"])
    labels = [f"{leads:,}", *(f"{count:,} · {share(count, leads)}" for count in others)]
    named_bars(axes, rows["stage"], counts, [LIGHT.poor, LIGHT.accent, LIGHT.fair, LIGHT.good], labels)


@chart(3.4, "Bars: share of sold leads in the states with the most leads.")
def conversion_funnel_per_state(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw which share of the leads of a state was sold, with 95 % confidence intervals.

    Draws the eight states with the most leads. States with fewer than FEW_LEADS, and leads without a state, are grey
    and have no interval.
    """
    shown = rows.head(8)
    states = "" if len(shown) == len(rows) else " of the states with the most leads"
    axes = figure.titled_axes(f"Sold, of all leads{states}, with 95 % intervals")
    rates = shown["conversion_rate"].astype(float)
    comparisons = {FEW: _COMPARISONS[FEW]} if figure.is_narrow else _COMPARISONS  # the others have a colour or interval
    labels = [
        f"{share(sold, leads)} of {leads:,}{comparisons.get(comparison, '')}"
        for sold, leads, comparison in zip(shown["sale_count"], shown["lead_count"], shown["comparison"], strict=True)
    ]
    special = {FEW: LIGHT.poor, NO_STATE: LIGHT.poor, HIGHEST: LIGHT.good}
    colours = [special.get(comparison, LIGHT.accent) for comparison in shown["comparison"]]
    judged = shown[~shown["comparison"].isin([FEW, NO_STATE])]  # with few leads, the interval is too wide to draw
    ends = judged["highest_rate"].reindex(shown.index).fillna(rates)
    named_bars(axes, shown["state"], ends, "none", labels)  # transparent: they place the labels beside the intervals
    axes.barh(range(len(shown)), rates, color=colours, height=0.7, zorder=0.5)
    spread = [judged["conversion_rate"] - judged["lowest_rate"], judged["highest_rate"] - judged["conversion_rate"]]
    axes.errorbar(
        judged["conversion_rate"], judged.index, xerr=spread, fmt="none", ecolor=LIGHT.text, elinewidth=1, capsize=3
    )
    axes.set_xlim(0, max(float(ends.max()), 1e-9) * (1.9 if figure.is_narrow else 1.8))


_COMPARISONS = {FEW: ": few leads", HIGHEST: ": highest", UNCLEAR: ": no clear difference"}


@chart(3.6, "Bars: the most frequent changes of disposition.")
def status_changes(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw how often the ten most frequent changes of disposition occur; in a narrow chart, seven."""
    shown = rows.head(7 if figure.is_narrow else 10)
    joint = " →\n" if figure.is_narrow else " → "
    names = [
        f"{_cut(before, 24)}{joint}{_cut(after, 24)}"
        for before, after in zip(shown["dispo_before"], shown["dispo"], strict=True)
    ]
    named_bars(figure.titled_axes("Most frequent changes"), names, shown["change_count"], LIGHT.accent)


@chart(3.0, "Bars: leads by disposition group.")
def disposition_groups(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads in each disposition group, each lead by its latest snapshot."""
    total = int(rows["lead_count"].sum())
    labels = [f"{count:,} · {share(count, total)}" for count in rows["lead_count"]]
    _groups(figure, "Leads by disposition group", rows, "lead_count", labels)


@chart(3.0, "Bars: leads that are not in the latest snapshot, by disposition group.")
def leads_that_left(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads that are not in the latest snapshot, by disposition group."""
    labels = [
        f"{left:,} of {leads:,}" + ("" if figure.is_narrow else f" ({share(left, leads)})")
        for left, leads in zip(rows["left_count"], rows["lead_count"], strict=True)
    ]
    _groups(figure, "Leads that left, of all leads of their group", rows, "left_count", labels)


def _groups(figure: ChartFigure, title: str, rows: pd.DataFrame, column: str, labels: list[str]) -> None:
    names = [fill(name, 14) if figure.is_narrow else name for name in rows["disposition_group"]]
    colours = [LIGHT.good if name == "sold" else LIGHT.accent for name in rows["disposition_group"]]
    named_bars(figure.titled_axes(title), names, rows[column], colours, labels)


@chart(2.9, "Bars: share of leads with an appointment, by the week in which they were first seen. Few leads: grey.")
def first_weeks(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the share of leads with an appointment, by the week in which they were first seen: the last eight rows.

    With fewer than eight weeks, one of these rows contains the leads of the first snapshot.
    """
    axes = figure.titled_axes("With an appointment, by week of the first snapshot with the lead")
    shown = rows.tail(8)
    labels = [
        f"{share(week['appointment_count'], week['lead_count'])} of {week['lead_count']:,}"
        + _COMPARISONS.get(week["comparison"], "")
        for week in shown.to_dict("records")
    ]
    colours = [LIGHT.poor if comparison == FEW else LIGHT.accent for comparison in shown["comparison"]]
    named_bars(axes, shown["first_week"], shown["appointment_rate"], colours, labels)


@chart(2.7, "Bars: leads that reached each stage, of those first seen after the first snapshot.")
def days_to_stage(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of leads that reached each stage: when first seen, within seven days, or later."""
    axes = figure.titled_axes("Leads that reached the stage, and when")
    labels = [
        f"{count:,}{': few leads' if comparison else ''}"
        for count, comparison in zip(rows["reached_count"], rows["comparison"], strict=True)
    ]
    named_bars(axes, rows["stage"], rows["reached_count"], LIGHT.poor, labels)
    for column, part, colour in (
        ("within_7_days_count", "within 7 days", LIGHT.fair),
        ("same_day_count", "when first seen", LIGHT.good),
    ):
        bars = axes.barh(range(len(rows)), rows[column], color=colour, height=0.7)
        for bar, stage, count in zip(bars, rows["stage"], rows[column], strict=True):
            figure.show_on_hover(bar, f"{stage}, {part}: {count:,}")
    parts = {"when first seen": LIGHT.good, "within 7 days": LIGHT.fair, "later": LIGHT.poor}
    handles = [Patch(color=colour, label=label) for label, colour in parts.items()]
    axes.set_ylim(max(len(rows), 3) - 0.4, -1.4)  # room for the legend
    left = -0.25 if figure.is_narrow else 0
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(left, 1), ncols=3, columnspacing=1, handlelength=1)


@chart(3.5, "Pairs of bars, each on its own scale: figures per day in the last seven days, and in the seven before.")
def week_on_week(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw each figure per day in the last seven days and in the seven days before.

    Each pair of bars has its own scale: the longer bar of every pair has the same length.
    """
    axes = figure.titled_axes("Figures per day, each pair on its own scale")
    longest = rows[["per_day", "per_day_before"]].max(axis=1).clip(lower=1e-9)
    names = [fill(name, 16) if figure.is_narrow else name for name in rows["figure"]]
    weeks = {"last week": ("per_day", -0.2, LIGHT.good), "week before": ("per_day_before", 0.2, LIGHT.poor)}
    for week, (column, offset, colour) in weeks.items():
        positions = [number + offset for number in range(len(rows))]
        bars = axes.barh(positions, rows[column] / longest, color=colour, height=0.36, label=week)
        labels = rows[column].map("{:.1f}".format)
        if column == "per_day":
            labels = labels.where(rows["comparison"] != NOT_COMPARED, "not compared")
        axes.bar_label(bars, labels, padding=4)
        for bar, name, label in zip(bars, rows["figure"], labels, strict=True):
            figure.show_on_hover(bar, f"{name}, {week}: {label}" + ("" if label == "not compared" else " a day"))
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", labelcolor=LIGHT.text)
    axes.legend(loc="upper left", ncols=2)
    axes.set_ylim(len(rows) - 0.5, -1.3)  # room for the legend
    axes.set_xticks([])
    axes.set_xlim(0, 1.3)
    axes.spines["bottom"].set_visible(False)


@chart(2.6, "Bars: rows per suspect hash.")
def suspect_hashes(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of rows of the six most frequent suspect hashes. E-mail and phone count separately."""
    shown = rows.head(6)
    names = [f"{value[:8]}… {kind}" for value, kind in zip(shown["hash"], shown["kind"], strict=True)]
    named_bars(figure.titled_axes("Rows with a suspect hash"), names, shown["row_count"], LIGHT.fair)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# --- silver ---------------------------------------------------------------------------------------


@chart(3.0, "Stacked bars: clean and rejected rows by day.")
def rows_per_day(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of clean and of rejected rows of each day."""
    parts = {"clean": (rows["row_count"], LIGHT.accent), "rejected": (rows["rejected_count"], LIGHT.fair)}
    stacked_bars_by_day(figure, "Rows per day", rows["_partition_date"], parts)


@chart(4.4, "Heat map: share of rows without a value, by column and day.")
def null_shares(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the share of rows without a value, by column and day, from light (filled) to dark (empty)."""
    axes = figure.titled_axes("Share of rows without a value")
    colours = LinearSegmentedColormap.from_list("emptiness", [LIGHT.grid, LIGHT.accent])
    rows = rows.reindex(columns=pd.date_range(rows.columns.min(), rows.columns.max()))  # a missing day is a gap
    shown = axes.imshow(rows.to_numpy(dtype=float), aspect="auto", cmap=colours, vmin=0, vmax=1)
    days = list(pd.DatetimeIndex(rows.columns))
    for position in (days.index(moment) for moment in figure.affected_days if moment in days):
        axes.axvspan(position - 0.5, position + 0.5, fill=False, edgecolor=LIGHT.fair, linewidth=1.5)
    axes.set_yticks(range(len(rows.index)), [str(name) for name in rows.index])
    every = max(1, -(-len(rows.columns) // (3 if figure.is_narrow else 7)))
    positions = range(0, len(rows.columns), every)
    axes.set_xticks(positions, day_labels([days[position] for position in positions]))
    axes.spines["bottom"].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, format="{x:.0%}", fraction=0.04)
    bar.outline.set_visible(False)


@chart(3.0, "Bars: rejected rows by reason.")
def rejected_rows(figure: ChartFigure, rows: pd.DataFrame) -> None:
    """Draw the number of rejected rows for the eight most frequent reasons."""
    shown = rows.head(8)
    names = [fill(_cut(reason, 44), 22 if figure.is_narrow else 44) for reason in shown["reason"]]
    named_bars(figure.titled_axes("Rejected rows by reason"), names, shown["row_count"], LIGHT.fair)
