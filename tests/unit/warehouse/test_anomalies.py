"""Anomaly detection: a baseline of sound days, tolerances, and breaks that last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest

from etl.utils.day import day_ranges
from etl.warehouse.anomalies import Metric, best_match_shares, describe_findings, find_anomalies, label_of

FIRST = date(2024, 10, 1)


def day(number: int) -> date:
    return FIRST + timedelta(number - 1)


def metrics(name: str, values: Sequence[float], rows: int = 3700) -> list[Metric]:
    """One value per day from day 1 on, and the number of rows of each day."""
    days = [Metric(day(number), name, value, rows) for number, value in enumerate(values, start=1)]
    return days + [Metric(metric.day, "rows", float(rows), rows) for metric in days if name != "rows"]


def anomalous_days(name: str, values: Sequence[float], rows: int = 3700, since: Sequence[date] = ()) -> list[int]:
    found = find_anomalies(metrics(name, values, rows), {name: since})
    assert {anomaly.metric for anomaly in found} <= {name}
    return [(anomaly.day - FIRST).days + 1 for anomaly in found]


def test_break_is_reported_on_every_day_that_it_lasts() -> None:
    assert anomalous_days("set_share", [0.22] * 15 + [0.0] * 20 + [0.22] * 3) == list(range(16, 36))


def test_accepted_change_is_the_new_baseline() -> None:
    values = [1.0] * 10 + [0.0] * 10 + [1.0]
    assert anomalous_days("location_null_share", values) == list(range(11, 21))
    assert anomalous_days("location_null_share", values, since=[day(11)]) == [21]
    assert anomalous_days("location_null_share", values, since=[day(11), day(21)]) == []


def test_days_on_which_a_flag_is_never_1_do_not_enter_its_baseline() -> None:
    assert anomalous_days("demo_share", [0.0] * 3 + [0.15] * 10 + [0.0]) == [14]
    assert anomalous_days("zip_null_share", [0.0] * 3 + [0.15] * 10) == [*range(6, 14)]


def test_share_of_matches_is_compared_with_the_best_one_of_the_day() -> None:
    values = [Metric(day(n), "match_both_share", share, 3700, 0.92) for n, share in enumerate([0.92, 0.86, 0.9], 1)]
    rows = metrics("rows", [3700.0] * 3)
    found = find_anomalies([*values, *rows], {})
    assert [anomaly.message for anomaly in found] == ["match_both_share is 86.0 %, expected 92.0 %"]
    assert find_anomalies([values[1]._replace(row_count=49), *rows], {}) == []
    lost = [Metric(day(n), "match_both_share", 0.6, 3700, 0.92 if n <= 5 else 0.6) for n in range(1, 8)]
    found = find_anomalies([*lost, *metrics("rows", [3700.0] * 7)], {})
    assert [(anomaly.day, anomaly.expected) for anomaly in found] == [(day(n), 0.92) for n in range(1, 8)]


def matched(both: int, none: int, rows: int = 100, etag: str | None = "a") -> dict[str, Any]:
    """Facts that the load ledger records for a day of gold."""
    return {"both": both, "none": none, "snapshot_rows": rows, "etag": etag}


def shares_of(best: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {metric: known["share"] for metric, known in best.items()}


def test_best_match_shares_survive_worse_builds() -> None:
    best_of_day_5 = partial(best_match_shares, day(5), accepted={})
    first = best_of_day_5(matched(90, 5), {})
    assert shares_of(first) == {"match_both_share": 0.9, "match_none_share": 0.05}
    worse = best_of_day_5(matched(10, 80), matched(90, 5))
    assert worse == first, "the load ledger of an earlier version has no best shares"
    earlier = matched(10, 80) | {"best_match_shares": worse}
    assert shares_of(best_of_day_5(matched(92, 0), earlier)) == {"match_both_share": 0.92, "match_none_share": 0.0}
    assert best_of_day_5(matched(0, 0, rows=0), {}) == {}
    assert shares_of(best_of_day_5(matched(80, 10), matched(49, 0, rows=49)))["match_both_share"] == 0.8


@pytest.mark.parametrize("etag", ["b", None])
def test_best_match_shares_of_another_file_are_forgotten(etag: str | None) -> None:
    earlier = matched(99, 1, etag=etag)
    earlier["best_match_shares"] = best_match_shares(day(5), earlier, {}, {})
    corrected = best_match_shares(day(5), matched(92, 8, etag=etag and "a"), earlier, {})
    assert shares_of(corrected) == {"match_both_share": 0.92, "match_none_share": 0.08}


def test_accepted_change_of_matches_starts_anew() -> None:
    accepted = {"match_both_share": [day(4), day(6)]}
    earlier = matched(70, 1) | {"best_match_shares": {"match_both_share": {"share": 0.95, "accepted": []}}}
    best = best_match_shares(day(5), matched(60, 2), earlier, accepted)["match_both_share"]
    assert best == {"share": 0.7, "accepted": ["2024-10-04"]}, "the loss since the acceptance is found"


def test_change_of_matches_that_was_accepted_before_the_run_is_no_anomaly() -> None:
    earlier = matched(95, 1) | {"best_match_shares": {"match_both_share": {"share": 0.95, "accepted": []}}}
    accepted = {"match_both_share": [day(1)]}
    best = best_match_shares(day(5), matched(60, 2), earlier, accepted)["match_both_share"]
    assert best == {"share": 0.6, "accepted": ["2024-10-01"]}
    again = matched(60, 2) | {"best_match_shares": {"match_both_share": best}}
    assert best_match_shares(day(5), matched(40, 2), again, accepted)["match_both_share"] == best


def test_metric_with_a_fixed_expected_value_is_tested_from_the_first_day_on() -> None:
    assert anomalous_days("appt_date_without_set_share", [0.21, 0.0, 0.009, 0.21] + [0.21] * 8) == [1, *range(4, 13)]
    repaired = [0.21] * 10 + [0.0] * 3 + [0.21, 0.0]
    assert anomalous_days("appt_date_without_set_share", repaired, since=[day(1)]) == [14]
    assert anomalous_days("appt_date_without_set_share", [0.21] * 2 + [0.0] * 2 + [0.21] * 2, since=[day(1)]) == [5, 6]
    assert anomalous_days("appt_date_without_set_share", [0.21] * 10 + [0.4], since=[day(1)]) == [11]
    assert anomalous_days("appt_date_without_set_share", [0.02] * 6 + [0.0095] + [0.02] * 4, since=[day(1)]) == []
    assert anomalous_days("appt_date_without_set_share", [0.03] * 6 + [0.0] * 6, since=[day(1)]) == []
    assert anomalous_days("set_without_appt_date_share", [1.0], rows=49) == []
    small = [
        Metric(day(n), "appt_date_without_set_share", 0.1 if n < 7 else 0.2, 40 if n < 7 else 3700) for n in range(1, 8)
    ]
    rows = [Metric(metric.day, "rows", 40.0, 40) for metric in small]
    assert [anomaly.day for anomaly in find_anomalies([*small, *rows], {})] == [day(7)]


def test_flag_that_is_broken_at_first_does_not_make_later_days_anomalies() -> None:
    values = metrics("set_share", [0.0] * 7 + [0.21] * 10 + [0.0])
    values += metrics("appt_date_without_set_share", [0.21] * 7 + [0.0] * 11)[:18]
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(values, {})]
    assert found == [*(("appt_date_without_set_share", day(n)) for n in range(1, 8)), ("set_share", day(18))]
    values = metrics("demo_share", [0.0] * 3 + [0.15] * 10 + [0.0])
    values += metrics("sale_without_demo_share", [0.03] * 3 + [0.0] * 10 + [0.03])
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(values, {})]
    first_days = [("sale_without_demo_share", day(n)) for n in range(1, 4)]
    assert found == [*first_days, ("demo_share", day(14)), ("sale_without_demo_share", day(14))]


def test_status_changes_are_not_tested_when_a_disposition_is_renamed_for_some_days() -> None:
    renamed = metrics("dispo_share: Data", [0.6] * 10 + [0.0] * 2 + [0.6] * 3)
    changes = metrics("status_change_share", [0.01] * 10 + [0.6, 0.01, 0.6, 0.01, 0.01])
    found = {(anomaly.metric, anomaly.day) for anomaly in find_anomalies(renamed + changes, {})}
    assert found == {("dispo_share: Data", day(11)), ("dispo_share: Data", day(12))}
    lasting = metrics("dispo_share: Data", [0.6] * 10 + [0.0] * 5)
    other = metrics("dispo_share: Sale", [0.1] * 12 + [0.0] * 3)[:15]
    changes = metrics("status_change_share", [0.01] * 10 + [0.6, 0.01, 0.3, 0.01, 0.01])[:15]
    found = {(anomaly.metric, anomaly.day) for anomaly in find_anomalies(lasting + other + changes, {})}
    assert found == {("dispo_share: Data", day(n)) for n in range(11, 16)} | {
        ("dispo_share: Sale", day(n)) for n in range(13, 16)
    }


def test_status_changes_are_not_tested_when_a_flag_breaks_or_is_repaired() -> None:
    breaks = metrics("set_share", [0.21] * 10 + [0.0] * 2 + [0.21] * 3)
    changes = metrics("status_change_share", [0.01] * 10 + [0.22, 0.01, 0.22, 0.22, 0.01])[:15]
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(breaks + changes, {})]
    assert found == [("set_share", day(11)), ("set_share", day(12)), ("status_change_share", day(14))]
    accepted = {"set_share": [day(11)]}
    lasting = metrics("set_share", [0.21] * 10 + [0.0] * 5)
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(lasting + changes, accepted)]
    assert found == [("status_change_share", day(13)), ("status_change_share", day(14))]
    without_day_11 = [metric for metric in lasting + changes if metric.day != day(11)]
    without_day_11 = [
        metric._replace(value=0.22) if (metric.name, metric.day) == ("status_change_share", day(12)) else metric
        for metric in without_day_11
    ]
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(without_day_11, accepted)]
    assert found == [("status_change_share", day(13)), ("status_change_share", day(14))]
    other_flag = metrics("demo_share", [0.3] * 12 + [0.0] + [0.3] * 2)[:15]
    changes[13] = changes[14]
    changes[12:14] = metrics("status_change_share", [0.01] * 12 + [0.22, 0.22])[12:14]
    found = [(anomaly.metric, anomaly.day) for anomaly in find_anomalies(breaks + other_flag + changes, {})]
    assert found == [("set_share", day(11)), ("set_share", day(12)), ("demo_share", day(13))]


def test_first_days_are_not_tested() -> None:
    assert anomalous_days("set_share", [0.2, 0.0, 0.2, 0.0, 0.2]) == []
    assert anomalous_days("set_share", [0.2] * 5 + [0.0]) == [6]


@pytest.mark.parametrize(("rows", "expected"), [(49, []), (50, [11]), (3700, [11])])
def test_small_days_are_not_tested(rows: int, expected: list[int]) -> None:
    assert anomalous_days("city_null_share", [0.0] * 10 + [1.0], rows) == expected


def test_day_that_lacks_most_of_its_rows_is_an_anomaly() -> None:
    days = [Metric(day(number), "rows", float(rows), rows) for number, rows in enumerate([3700] * 10 + [30, 3700], 1)]
    assert [anomaly.day for anomaly in find_anomalies(days, {})] == [day(11)]
    small = [metric._replace(value=metric.value / 100, row_count=metric.row_count // 100) for metric in days]
    assert find_anomalies(small, {}) == []


@pytest.mark.parametrize(
    ("value", "is_anomaly"), [(0.22, False), (0.171, False), (0.165, True), (0.269, False), (0.275, True)]
)
def test_share_may_change_by_its_tolerance(value: float, is_anomaly: bool) -> None:
    assert bool(anomalous_days("set_share", [0.22] * 10 + [value])) == is_anomaly


def test_rare_value_that_disappears_is_found() -> None:
    assert anomalous_days("dispo_share: Sale", [0.03] * 10 + [0.0], rows=3700) == [11]
    assert anomalous_days("dispo_share: Sale", [0.03] * 10 + [0.0], rows=100) == [], "may be chance in 100 rows"


def test_disposition_that_is_no_longer_recorded_counts_as_zero() -> None:
    values = [*metrics("dispo_share: Sale", [0.05] * 10), Metric(day(11), "rows", 3700.0, 3700)]
    assert [anomaly.day for anomaly in find_anomalies(values, {})] == [day(11)]


def test_varying_metric_is_given_room() -> None:
    varying = [0.1, 0.2, 0.3] * 5
    assert anomalous_days("set_share", [*varying, 0.4]) == []
    assert anomalous_days("set_share", [*varying, 1.0]) == [16]


@pytest.mark.parametrize(("rows", "is_anomaly"), [(4050, False), (4100, True), (3350, False), (3300, True)])
def test_number_of_rows_may_change_by_a_tenth(rows: int, is_anomaly: bool) -> None:
    values = [Metric(day(n), "rows", float(rows if n == 11 else 3700), rows if n == 11 else 3700) for n in range(1, 12)]
    assert bool(find_anomalies(values, {})) == is_anomaly


def test_messages_show_observed_and_expected_value() -> None:
    (anomaly,) = find_anomalies(metrics("set_share", [0.22] * 10 + [0.0]), {})
    assert anomaly.message == "set_share is 0.0 %, expected 22.0 %"
    assert (anomaly.observed, anomaly.expected, anomaly.severity) == (0.0, 0.22, "warn")
    values = [Metric(day(n), "rows", 3700.0 if n < 11 else 7400.0, 3700) for n in range(1, 12)]
    assert find_anomalies(values, {})[0].message == "rows: 7,400, expected 3,700"


def test_findings_join_consecutive_days_and_put_the_largest_first() -> None:
    found = find_anomalies(metrics("set_share", [0.22] * 10 + [0.0, 0.22, 0.0, 0.0]), {})
    found += find_anomalies(metrics("demo_share", [0.22] * 10 + [0.3]), {})
    assert describe_findings(found) == [
        "set_share is 0.0 %, expected 22.0 %: 2024-10-11, 2024-10-13 to 2024-10-14",
        "demo_share is 30.0 %, expected 22.0 %: 2024-10-11",
    ]


def test_findings_put_new_anomalies_first_and_then_the_number_of_rows() -> None:
    found = find_anomalies(metrics("set_share", [0.22] * 10 + [0.0, 0.0]), {})
    found += find_anomalies(metrics("demo_share", [0.22] * 11 + [0.3]), {})
    found += find_anomalies([Metric(day(n), "rows", 3700.0 if n < 12 else 2500.0, 3700) for n in range(1, 13)], {})
    known = {(day(11), "set_share"), (day(12), "set_share"), (day(12), "demo_share")}
    named = [[text.split()[0].rstrip(":") for text in describe_findings(found, ends)] for ends in (set(), known)]
    assert named == [["rows", "set_share", "demo_share"]] * 2
    known = {(day(12), "rows"), *known} - {(day(12), "demo_share")}
    assert [text.split()[0].rstrip(":") for text in describe_findings(found, known)] == [
        "demo_share",
        "rows",
        "set_share",
    ]


def test_message_escapes_control_characters_of_a_disposition() -> None:
    (anomaly,) = find_anomalies(metrics("dispo_share: \x1b[31mred\n", [0.22] * 10 + [0.0]), {})
    assert anomaly.message.isprintable()


def test_day_ranges_never_span_days_between() -> None:
    assert day_ranges([]) == ""
    assert day_ranges([day(1)]) == "2024-10-01"
    assert day_ranges([day(1), day(2), day(3), day(5), day(31)]) == "2024-10-01 to 2024-10-03, 2024-10-05, 2024-10-31"


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("set_share", "rows with Set = 1"),
        ("location_null_share", "rows without location"),
        ("job_status_nulled_share", "values of job_status that cleaning made NULL"),
        ("dispo_share: No Show", "rows with disposition No Show"),
        ("a metric without a label", "a metric without a label"),
    ],
)
def test_metric_has_a_label_for_readers(metric: str, label: str) -> None:
    assert label_of(metric) == label
