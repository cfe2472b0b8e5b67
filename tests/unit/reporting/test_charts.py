"""Charts are drawn in both themes, for any number of rows, with sufficient contrast."""

from __future__ import annotations

import re
from dataclasses import asdict

import pandas as pd
import pytest

from etl.reporting import charts


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
    assert charts.as_svg(figure).startswith("<?xml")
    assert figure.get_figwidth() == (charts.NARROW if narrow else charts.WIDE)


def test_dark_theme_has_no_colour_of_the_light_theme() -> None:
    light = charts.as_svg(charts.new_high_quality_leads_per_day(trend(9)))
    colours = set(re.findall(r"#[0-9a-f]{6}\b", charts.in_dark(light)))
    assert colours <= {*asdict(charts.DARK).values(), "#000000"}
    assert charts.DARK.good in colours


def test_trend_graph_excludes_the_first_day() -> None:
    (axes,) = charts.new_high_quality_leads_per_day(trend(5)).axes
    (line, _mean) = axes.lines
    assert list(line.get_ydata()) == [1, 2, 3, 4]


def test_same_rows_give_the_same_chart() -> None:
    first, second = (charts.as_svg(charts.new_high_quality_leads_per_day(trend(9))) for _ in range(2))
    assert first == second


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [charts.LIGHT, charts.DARK], ids=["light", "dark"])
def test_text_and_bars_have_sufficient_contrast(theme: charts.Theme) -> None:
    for text in (theme.text, theme.dim):
        assert contrast(text, theme.background) >= 4.5
    for bar in (theme.good, theme.fair, theme.poor, theme.accent):
        assert contrast(bar, theme.background) >= 3
