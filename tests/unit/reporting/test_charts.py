"""Charts are drawn in both themes, for any number of rows, with sufficient contrast."""

from __future__ import annotations

import re
from dataclasses import asdict
from xml.dom.minidom import parseString

import pandas as pd
import pytest
from matplotlib.text import Text

from etl.reporting import charts, drawing
from etl.reporting.theme import DARK, LIGHT, Theme
from etl.reporting.weeks import NOT_COMPARED


def trend(days: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "_partition_date": pd.date_range("2024-10-01", periods=days),
            "new_high_quality_leads": [500, *range(1, days)][:days],
        }
    )


@pytest.mark.parametrize("days", [0, 1, 2, 22, 400])
@pytest.mark.parametrize("narrow", [False, True])
def test_trend_graph_accepts_any_number_of_days(days: int, narrow: bool) -> None:
    figure = charts.new_high_quality_leads_per_day(trend(days), narrow=narrow)
    assert drawing.as_svg(figure).startswith("<svg ")
    assert figure.get_figwidth() == (drawing.NARROW if narrow else drawing.WIDE)


def test_themed_chart_has_variables_instead_of_the_colours_of_the_light_theme() -> None:
    themed = drawing.themed(drawing.as_svg(charts.new_high_quality_leads_per_day(trend(9))))
    assert set(re.findall(r"#[0-9a-f]{6}\b", themed)) <= {"#000000"}
    assert set(re.findall(r"var\(--chart-(\w+)\)", themed)) <= asdict(LIGHT).keys()
    assert "var(--chart-good)" in themed


def test_chart_shows_the_values_of_each_day_on_hover() -> None:
    svg = drawing.as_svg(charts.new_high_quality_leads_per_day(trend(3)))
    assert re.findall(r"<title>(.+?)</title>", svg) == [
        "2 October 2024: became high quality 1",
        "3 October 2024: became high quality 2",
    ]


def test_figure_that_is_not_compared_has_no_rate_on_hover() -> None:
    rows = pd.DataFrame(
        {
            "figure": ["new leads", "sales"],
            "per_day": [29.7, 0.0],
            "per_day_before": [30.3, 4.9],
            "comparison": ["no clear difference", NOT_COMPARED],
        }
    )
    assert re.findall(r"<title>(.+?)</title>", drawing.as_svg(charts.week_on_week(rows))) == [
        "new leads, last week: 29.7 a day",
        "sales, last week: not compared",
        "new leads, week before: 30.3 a day",
        "sales, week before: 4.9 a day",
    ]


def test_bars_after_days_without_a_snapshot_are_as_wide_as_these_days_and_show_counts_per_day() -> None:
    rows = pd.DataFrame(
        {
            "_partition_date": pd.to_datetime(["2024-10-01", "2024-10-02", "2024-10-06"]),
            "total_leads": [500, 502, 510],
            "new_leads": [500, 3, 8],
            "cumulative_leads": [500, 503, 511],
        }
    )
    below = charts.leads_per_day(rows).axes[1]
    bars = [(bar.get_width(), bar.get_height()) for bar in below.containers[0]]
    assert bars == [(0.75, 3.0), (3.75, 2.0)]


def test_values_of_the_source_are_escaped() -> None:
    rows = pd.DataFrame({"dispo_before": ["<b>"], "dispo": ["x"], "change_count": [1], "lead_count": [1]})
    assert "<b>" not in drawing.as_svg(charts.status_changes(rows))


@pytest.mark.parametrize("dispo", ["Budget $5k-$10k", "Price too $$$_$", "Quote 9^$ cancelled$", "bell \a"])
def test_dispositions_are_text_whatever_their_characters(dispo: str) -> None:
    rows = pd.DataFrame({"dispo_before": [dispo], "dispo": ["x"], "change_count": [1], "lead_count": [1]})
    svg = parseString(drawing.as_svg(charts.status_changes(rows)))
    texts = [node.firstChild.data for node in svg.getElementsByTagName("text")]
    assert any(dispo.replace("\a", "") in text for text in texts)


def test_trend_graph_excludes_the_first_day() -> None:
    (axes,) = charts.new_high_quality_leads_per_day(trend(5)).axes
    (line, _mean) = axes.lines
    assert list(line.get_ydata()) == [1, 2, 3, 4]


def test_same_rows_give_the_same_chart() -> None:
    first, second = (drawing.as_svg(charts.new_high_quality_leads_per_day(trend(9))) for _ in range(2))
    assert first == second


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_bars_have_sufficient_contrast(theme: Theme) -> None:
    for text in (theme.text, theme.dim):
        assert contrast(text, theme.background) >= 4.5
    for bar in (theme.good, theme.fair, theme.poor, theme.accent):
        assert contrast(bar, theme.background) >= 3


WEEK = {"figure": ["sales"], "per_day": [1.4], "per_day_before": [2.0], "comparison": ["lower"]}
PER_STATE = {
    "state": ["WA", "IL", *"abcdefg"],
    "lead_count": [1416, 2, *range(7)],
    "sale_count": [51, 2, *[0] * 7],
    "conversion_rate": [0.036, 1.0, *[0.0] * 7],
    "lowest_rate": [0.027, 0.2, *[0.0] * 7],
    "highest_rate": [0.047, 1.0, *[0.5] * 7],
    "comparison": ["highest", *["few leads"] * 8],
}
FIRST_WEEKS = {
    "first_week": ["first snapshot", "2024-10-21"],
    "lead_count": [3715, 4],
    "appointment_count": [802, 2],
    "appointment_rate": [0.216, 0.5],
    "comparison": ["", "few leads"],
}


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize(
    ("draw", "rows", "title", "label"),
    [
        (charts.week_on_week, WEEK, "Figures per day, each pair on its own scale", "1.4"),
        (charts.conversion_funnel_per_state, PER_STATE, "leads, with 95 % intervals", "100.0 % of 2: few leads"),
        (charts.first_weeks, FIRST_WEEKS, "by week of the first snapshot with the lead", "50.0 % of 4: few leads"),
        (charts.new_high_quality_leads_per_day, trend(9), "per day, without the first day", "mean\n4.5"),
    ],
)
def test_caveats_are_shown_and_fit_at_both_widths(
    draw: drawing.Chart, rows: dict[str, list[object]], title: str, label: str, narrow: bool
) -> None:
    figure = draw(pd.DataFrame(rows), narrow=narrow)
    drawing.as_svg(figure)  # arranges the texts
    assert title in figure.get_suptitle().replace("\n", " ")
    texts = {text.get_text(): text for text in figure.findobj(Text)}
    for shown in (figure.get_suptitle(), label):
        extent = texts[shown].get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width + 1
