"""The week-on-week comparison tells a clear difference from chance, and says what it cannot compare."""

from __future__ import annotations

import pandas as pd
import pytest

from etl.reporting.answers import Anomalies
from etl.reporting.weeks import MORE, week_on_week

NO_ANOMALIES = Anomalies(pd.DataFrame(columns=["_partition_date", "metric", "observed", "expected"]))
COLUMNS = [f"{name}_count" for name in ("new", "left", "appointment", "demo", "sale", "high_quality")]


def weeks(latest: int, before: int, *, covered: tuple[int, int] = (7, 7)) -> pd.DataFrame:
    rows = pd.DataFrame({name: [latest, before] for name in COLUMNS})
    rows["covered_days"] = covered
    rows["last_day"] = pd.to_datetime(["2024-10-22", "2024-10-15"])
    rows["previous_snapshot"] = rows["last_day"] - pd.Timedelta(days=7)
    return rows


@pytest.mark.parametrize(
    ("latest", "before", "covered", "comparison"),
    [
        (140, 70, (7, 7), "more"),
        (70, 140, (7, 7), "fewer"),
        (3, 1, (7, 7), "no clear difference"),
        (0, 0, (7, 7), "no clear difference"),
        (5, 0, (7, 7), "no clear difference"),
        (6, 0, (7, 7), "more"),
        (140, 70, (14, 7), "no clear difference"),
    ],
)
def test_difference_is_clear_if_it_is_larger_than_chance_per_covered_day(
    latest: int, before: int, covered: tuple[int, int], comparison: str
) -> None:
    answer = week_on_week(weeks(latest, before, covered=covered), NO_ANOMALIES)
    assert set(answer.rows["comparison"]) == {comparison}


def test_sentence_names_clear_differences_per_day() -> None:
    sentence = week_on_week(weeks(140, 70), NO_ANOMALIES).sentence
    assert sentence.startswith(
        "The 7 days to 22 October 2024, compared with the 7 days before: more new leads (20.0 a day after 10.0); "
    )


def test_affected_figures_are_not_compared() -> None:
    broken = {
        "_partition_date": pd.to_datetime(["2024-10-16"]),
        "metric": "set_share",
        "observed": 0.0,
        "expected": 0.2,
    }
    answer = week_on_week(weeks(140, 70), Anomalies(pd.DataFrame(broken)))
    rows = answer.rows.set_index("figure")
    assert rows["comparison"]["high quality for the first time"] == "not compared because of affected days"
    assert rows["comparison"]["new leads"] == "more"
    assert answer.sentence.endswith("not compared because of affected days (high quality for the first time).")
    assert answer.note


@pytest.mark.parametrize(("broken", "is_compared"), [("2024-10-07", True), ("2024-10-08", False)])
def test_weeks_after_an_affected_snapshot_are_not_compared(broken: str, is_compared: bool) -> None:
    found = pd.DataFrame(
        {"_partition_date": pd.to_datetime([broken]), "metric": "set_share", "observed": 0.0, "expected": 0.2}
    )
    table = week_on_week(weeks(140, 70), Anomalies(found)).rows.set_index("figure")["comparison"]
    assert (table["high quality for the first time"] == MORE) == is_compared
    assert table["new leads"] == MORE


@pytest.mark.parametrize(
    ("covered", "note"), [((7, 7), None), ((7, 10), "7 days and 10 days"), ((7, 6), "7 days and 6 days")]
)
def test_days_that_the_figures_cover_are_stated_unless_they_are_seven(covered: tuple[int, int], note: str) -> None:
    sentence = week_on_week(weeks(140, 70, covered=covered), NO_ANOMALIES).sentence
    assert ("the figures cover" in sentence) == (note is not None)
    assert not note or sentence.endswith(f" since the previous one: the figures cover {note}.")


def test_weeks_that_do_not_follow_each_other_are_not_compared() -> None:
    sentence = "A comparison requires snapshots in both of the last two weeks, besides the first snapshot."
    rows = weeks(140, 70)
    assert week_on_week(rows.head(1), NO_ANOMALIES).sentence == sentence
    assert week_on_week(rows.assign(covered_days=[7, 0]), NO_ANOMALIES).sentence == sentence
    rows.loc[1, "last_day"] -= pd.Timedelta(days=7)
    assert week_on_week(rows, NO_ANOMALIES).sentence == sentence
