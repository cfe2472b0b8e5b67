"""The sentences of the analysis agree with the rows, including few or no rows."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from etl.reporting import analysis, charts, daily, outcomes, runs, silver_analysis, weeks, words
from etl.reporting.answers import QUALITY, Anomalies
from etl.warehouse.sql_scripts import SQL_SCRIPTS

NO_DAYS = pd.DataFrame({"_partition_date": pd.to_datetime([])})
NO_ANOMALIES = Anomalies(pd.DataFrame(columns=["_partition_date", "metric", "observed", "expected"]))
NO_FLAGS_AT_ZERO = pd.DataFrame(columns=["_partition_date", "metric"])
NO_CHANGES = pd.DataFrame(columns=["metric", "since", "note"])
DAYS = pd.to_datetime(["2024-10-01", "2024-10-02", "2024-10-04"])


def scenarios(*row_counts: int) -> pd.DataFrame:
    names = ["both", "email_only", "phone_only", "none"]
    return pd.DataFrame({"scenario": names, "row_count": row_counts, "lead_count": row_counts})


def test_match_scenarios_have_shares_and_counts() -> None:
    answer = analysis.match_scenarios(scenarios(1990, 6, 3, 1))
    assert answer.sentence == (
        "Of 2,000 rows, 99.5 % match a lead on e-mail and phone, "
        "6 on the e-mail alone, and 3 on the phone alone. Rows without a lead: 1."
    )
    assert analysis.match_scenarios(scenarios(0, 0, 0, 0)).sentence == "There are no rows yet."


def test_leads_per_day_describes_the_last_day_and_the_best_after_the_first() -> None:
    rows = pd.DataFrame(
        {
            "_partition_date": DAYS,
            "total_leads": [100, 103, 101],
            "new_leads": [100, 4, 8],
            "cumulative_leads": [100, 104, 112],
        }
    )
    assert daily.leads_per_day(rows, NO_ANOMALIES).sentence == (
        "The snapshot of 4 October 2024 has 101 leads, of 112 ever seen; "
        "after the first day, 4.0 are new a day on average, and most in the snapshot of 2 October 2024: 4."
    )
    assert daily.leads_per_day(rows.head(1), NO_ANOMALIES).sentence.endswith(
        "of 100 ever seen; it is the only one so far."
    )
    assert daily.leads_per_day(rows.head(0), NO_ANOMALIES).sentence == "There is no snapshot yet."


def test_distribution_counts_each_lead_once_by_its_current_flag() -> None:
    flags = ["High Quality", "Medium Quality", "Low Quality"]
    rows = pd.DataFrame(
        {"lead_quality_flag": flags, "row_count": 9, "lead_count": 9, "current_lead_count": [150, 50, 800]}
    )
    assert daily.lead_quality_distribution(rows, NO_DAYS, NO_ANOMALIES).sentence == (
        "Of 1,000 leads as they are now, 150 (15.0 %) are of high quality, with an appointment and a demo, "
        "and 50 (5.0 %) of medium quality, with an appointment alone."
    )
    nothing = daily.lead_quality_distribution(rows.assign(current_lead_count=0), NO_DAYS, NO_ANOMALIES)
    assert nothing.sentence == "No lead is graded yet."


def test_quality_per_day_has_a_column_for_every_flag() -> None:
    rows = pd.DataFrame(
        {"_partition_date": DAYS[:2], "lead_quality_flag": ["High Quality", "Low Quality"], "lead_count": [1, 3]}
    )
    days = pd.DataFrame({"_partition_date": DAYS[:2], "total_leads": [4, 3]})
    answer = daily.lead_quality_per_day(rows, days, NO_ANOMALIES)
    assert list(answer.rows.columns) == [
        "_partition_date",
        "High Quality",
        "Medium Quality",
        "Low Quality",
        "total_leads",
    ]
    assert answer.rows["Medium Quality"].tolist() == [0, 0]
    assert answer.sentence == (
        "High-quality leads were 25.0 % of the snapshot of 1 October 2024 and are 0.0 % of that of 2 October 2024."
    )


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            [535, 1, 4],
            "After the first day, 5 leads became high quality: 1.7 a day on average, and most in the snapshot of "
            "4 October 2024: 4 in the 2 days since the one before, 2.0 a day.",
        ),
        ([535, 0, 0], "After the first day, no lead became high quality."),
        ([535], "A trend requires two snapshots: on the first day all leads are new."),
        ([], "A trend requires two snapshots: on the first day all leads are new."),
    ],
)
def test_trend_sentence_excludes_the_first_day(counts: list[int], sentence: str) -> None:
    rows = pd.DataFrame({"_partition_date": DAYS[: len(counts)], "new_high_quality_leads": counts})
    assert daily.new_high_quality_leads_per_day(rows, NO_ANOMALIES).sentence == sentence


def test_funnel_has_rates_of_all_leads_and_of_the_stage_before() -> None:
    counts = {"lead_count": [200], "appointment_count": [50], "demo_count": [10], "sale_count": [5]}
    answer = outcomes.conversion_funnel(pd.DataFrame(counts))
    assert answer.rows.to_dict("list") == {
        "stage": ["leads", "appointment", "demo", "sale"],
        "lead_count": [200, 50, 10, 5],
        "of_leads": [1.0, 0.25, 0.05, 0.025],
        "of_stage_before": [1.0, 0.25, 0.2, 0.5],
    }
    assert answer.sentence == "Of 200 leads, 25.0 % had an appointment, 5.0 % a demo and 2.5 % a sale."
    assert outcomes.conversion_funnel(pd.DataFrame(counts) * 0).sentence == "No lead is graded yet."


def test_states_with_few_leads_are_not_compared() -> None:
    rows = pd.DataFrame(
        {
            "state": ["WA", "OR", "IL", None],
            "lead_count": [100, 50, 2, 1],
            "sale_count": [10, 1, 2, 0],
            "conversion_rate": [0.1, 0.02, 1.0, 0.0],
        }
    )
    answer = outcomes.conversion_funnel_per_state(rows)
    assert answer.rows["state"].tolist() == ["WA", "OR", "IL", "unknown"]
    assert answer.rows["comparison"].tolist() == ["highest", "no clear difference", "few leads", "few leads"]
    assert answer.sentence == (
        "Of the states with at least 50 leads, WA has the highest share of sold leads (10.0 % of 100 leads) and OR the "
        "lowest (2.0 % of 50): no clear difference, the 95 % intervals overlap."
    )
    assert outcomes.conversion_funnel_per_state(rows.head(1)).sentence == (
        "Only WA has at least 50 leads: 10.0 % of them are sold."
    )
    assert outcomes.conversion_funnel_per_state(rows.tail(2)).sentence.startswith("No state has 50 leads yet")


def test_no_state_is_the_best_if_all_rates_are_equal() -> None:
    rows = pd.DataFrame(
        {
            "state": ["WA", "NV", "ID"],
            "lead_count": [100, 80, 2],
            "sale_count": [0, 0, 1],
            "conversion_rate": [0, 0, 0.5],
        }
    )
    answer = outcomes.conversion_funnel_per_state(rows)
    assert answer.rows["comparison"].tolist() == [outcomes.UNCLEAR, outcomes.UNCLEAR, "few leads"]
    assert answer.sentence == "All states with at least 50 leads have the same share of sold leads: 0.0 %."
    charts.conversion_funnel_per_state(answer.rows)


def test_leads_without_a_state_are_not_compared_with_states() -> None:
    rows = pd.DataFrame(
        {"state": [None, "WA"], "lead_count": [900, 2], "sale_count": [90, 1], "conversion_rate": [0.1, 0.5]}
    )
    answer = outcomes.conversion_funnel_per_state(rows)
    assert answer.rows["comparison"].tolist() == ["", "few leads"]
    assert answer.sentence == "No state has 50 leads yet: too few for a rate."
    charts.conversion_funnel_per_state(answer.rows)


def test_flag_at_zero_is_noted_unless_the_day_has_an_anomaly_of_this_flag() -> None:
    zero = pd.DataFrame({"_partition_date": [DAYS[0], DAYS[1], DAYS[1]], "metric": ["set_share"] * 2 + ["demo_share"]})
    found = pd.DataFrame(
        {"_partition_date": DAYS[:1], "metric": ["appt_date_without_set_share"], "observed": [0.2], "expected": [0.0]}
    )
    note = analysis.data_anomalies(Anomalies(found), zero, NO_CHANGES).note
    assert "has Set = 1: 2024-10-02;" in note
    assert "has Demo = 1: 2024-10-02;" in note


def test_accepted_changes_are_listed() -> None:
    changes = pd.DataFrame(
        {"metric": ["set_share", "location_null_share"], "since": DAYS[:2], "note": ["new rule", None]}
    )
    answer = analysis.data_anomalies(NO_ANOMALIES, NO_FLAGS_AT_ZERO, changes)
    assert answer.sentence == (
        "No unexpected values were found. Accepted as the new normal: rows with Set = 1 since 1 October 2024 (new "
        "rule); rows without location since 2 October 2024."
    )
    assert analysis.data_anomalies(NO_ANOMALIES, NO_FLAGS_AT_ZERO, NO_CHANGES).sentence == (
        "No unexpected values were found."
    )


def test_sales_do_not_depend_on_the_flags() -> None:
    week = {name: [7, 7] for name, _ in weeks.FIGURES.values()} | {"covered_days": [7, 7]}
    rows = pd.DataFrame(week | {"previous_snapshot": [DAYS[1], DAYS[0]], "last_day": [DAYS[1], DAYS[0]]})
    broken = pd.DataFrame({"_partition_date": DAYS[:1], "metric": ["demo_share"], "observed": [0.0], "expected": [0.2]})
    table = weeks.week_on_week(rows, Anomalies(broken)).rows.set_index("figure")["comparison"]
    assert table["sales"] == outcomes.UNCLEAR
    assert table["demos"] == table["appointments"] == weeks.NOT_COMPARED


def test_status_changes_name_the_most_frequent_change() -> None:
    rows = pd.DataFrame(
        {"dispo_before": [None, "Data"], "dispo": ["Data", "Sale"], "change_count": [2, 1], "lead_count": [2, 1]}
    )
    life = {"lead_count": [10], "changed_lead_count": [3], "change_count": [4], "median_days": [2.5]}
    assert outcomes.status_changes(rows, pd.DataFrame(life), NO_DAYS, NO_ANOMALIES).sentence == (
        "Of 10 leads, 3 (30.0 %) changed their status at least once; a status that ended had lasted 2.5 days "
        "(median, counted from the first snapshot at the earliest). The most frequent change of disposition is from "
        "(none) to Data: 2 times."
    )
    nothing = pd.DataFrame({"lead_count": [0], "changed_lead_count": [0], "change_count": [0], "median_days": [None]})
    assert (
        outcomes.status_changes(rows.head(0), nothing, NO_DAYS, NO_ANOMALIES).sentence
        == "No lead has changed its status yet."
    )


def test_suspect_hashes_are_counted_once_for_both_columns() -> None:
    rows = pd.DataFrame({"hash": ["a", "a"], "kind": ["email", "phone"], "row_count": [3, 1]})
    matches = pd.DataFrame({"row_count": [3], "lead_count": [1]})
    assert analysis.suspect_hashes(rows, matches).sentence == (
        "Suspect: 1 hash. 3 matches of 1 lead rely on suspect hashes alone."
    )
    assert analysis.suspect_hashes(rows.head(0), matches * 0).sentence == "No hash is suspect."


def test_null_shares_name_the_first_day_of_a_filled_column() -> None:
    filled = pd.DataFrame(
        {"_partition_date": DAYS, "row_count": [2, 2, 4], "zip": [2, 2, 4], "location": [0, 0, 3], "city": [2, 2, 3]}
    )
    answer = silver_analysis.null_shares(filled)
    assert answer.rows.loc["location"].tolist() == [1.0, 1.0, 0.25]
    assert answer.sentence == (
        "location is empty most often (62.5 % of all rows); 1 of 3 columns always have a value. "
        "Filled on some days only: location (first on 4 October 2024)."
    )
    emptied = silver_analysis.null_shares(filled.assign(location=[2, 2, 0]))
    assert emptied.sentence.endswith("Filled on some days only: location (first on 1 October 2024).")
    assert silver_analysis.null_shares(filled.head(0)).sentence == "There is no snapshot yet."


def test_header_drift_lists_added_missing_and_moved_columns() -> None:
    answer = silver_analysis.header_drift(
        {
            date(2024, 10, 1): ["CITY", "Set", "Demo"],
            date(2024, 10, 2): ["CITY", "Set", "Demo"],
            date(2024, 10, 3): ["CITY", "Demo", "Set"],
            date(2024, 10, 4): ["Demo", "Set", "CityName"],
        }
    )
    assert [tuple(row) for row in answer.rows.to_numpy()] == [
        (date(2024, 10, 3), "", "", "yes"),
        (date(2024, 10, 4), "CityName", "CITY", ""),
    ]
    assert answer.sentence == (
        "The header differs from that of the previous file in 2 of 4 files: 3 October 2024, 4 October 2024."
    )
    assert silver_analysis.header_drift({date(2024, 10, 1): ["CITY"]}).sentence == "No change in the headers of 1 file."
    assert silver_analysis.header_drift({}).sentence == "No change in the headers of 0 files."


def test_source_drift_lists_constant_empty_and_unknown_columns() -> None:
    filled = pd.DataFrame(
        {"_partition_date": DAYS, "row_count": 9, "STATE": [9, 9, 0], "CITY": [9, 9, 1], "Set": 9, "is_set": [2, 0, 3]}
    )
    unknown = pd.DataFrame({"column_name": ["Rep"], "row_count": [9], "_partition_date": DAYS[2:]})
    answer = silver_analysis.source_drift(filled, unknown)
    assert answer.rows["column_name"].tolist() == ["STATE", "Set", "Rep"]
    assert answer.sentence == "3 columns drifted: STATE (empty), Set (never 1), Rep (unknown)."
    assert answer.rows["days"].tolist() == ["2024-10-04", "2024-10-02", "2024-10-04"]
    assert (
        silver_analysis.source_drift(filled.head(1), unknown.head(0)).sentence
        == "No column drifted: none is unknown, and none is empty on only some days."
    )


def test_flag_without_any_value_on_a_day_drifted_once() -> None:
    filled = pd.DataFrame({"_partition_date": DAYS, "row_count": 9, "Set": [9, 9, 0], "is_set": [2, 1, 0]})
    unknown = pd.DataFrame(columns=["column_name", "row_count", "_partition_date"])
    assert silver_analysis.source_drift(filled, unknown).sentence == "1 column drifted: Set (empty)."
    never = filled.assign(is_set=0)
    assert silver_analysis.source_drift(never, unknown).sentence == "1 column drifted: Set (empty)."


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        (["running"], "No run has ended yet."),
        (["running", "complete"], "The last run refused no file."),
        (["complete", "refused"], "The last run refused no file. Of the last 2 runs, 1 refused data."),
        (["running", "refused"], "The last run refused data: because of refused"),
        (["failed", "complete"], "The last run has the status failed: because of failed"),
    ],
)
def test_refused_files_answers_about_the_last_run_that_ended(statuses: list[str], sentence: str) -> None:
    started = pd.Timestamp("2024-10-23", tz="UTC")
    ended = [pd.NaT if status == "running" else started for status in statuses]
    messages = [None if status in ("running", "complete") else f"because of {status}" for status in statuses]
    last_runs = pd.DataFrame(
        {"run_id": "1", "started_at": started, "ended_at": ended, "status": statuses, "message": messages}
    )
    assert runs.refused_files(last_runs).sentence == sentence


def test_partial_share_is_never_shown_as_0_or_100_percent() -> None:
    shown = [words.share(part, 100_000) for part in (0, 1, 50, 99_949, 99_999, 100_000)]
    assert shown == ["0.0 %", "< 0.1 %", "0.1 %", "99.9 %", "> 99.9 %", "100.0 %"]
    assert words.share(0, 0) == "none"
    assert [words.share(part, 100_000) for part in (-49, -51)] == ["> -0.1 %", "-0.1 %"]


def test_each_analysis_query_states_its_grain() -> None:
    questions = sorted((SQL_SCRIPTS / "analysis").glob("*.sql"))
    assert questions
    assert [file.name for file in questions if not file.read_text(encoding="utf-8").startswith("-- Grain: ")] == []


def broken_flag(*days: str) -> Anomalies:
    found = {"_partition_date": pd.to_datetime(list(days)), "metric": "set_share", "observed": 0.0, "expected": 0.216}
    return Anomalies(pd.DataFrame(found))


def test_note_lists_ranges_of_days_with_observed_and_expected_values() -> None:
    anomalies = broken_flag("2024-10-01", "2024-10-02", "2024-10-04")
    days = "2024-10-01 to 2024-10-02, 2024-10-04"
    assert anomalies.note(QUALITY) == f"rows with Set = 1: 0.0 % on {days} (expected 21.6 %)"
    assert anomalies.note(["rows"]) == ""


def test_averages_leave_out_affected_days() -> None:
    rows = pd.DataFrame({"_partition_date": DAYS, "new_high_quality_leads": [535, 10, 0]})
    answer = daily.new_high_quality_leads_per_day(rows, broken_flag("2024-10-04"))
    assert answer.sentence == (
        "After the first day (without 1 day, because of anomalies), 10 leads became high quality: 10.0 a day "
        "on average, and most in the snapshot of 2 October 2024: 10."
    )
    assert answer.note


@pytest.mark.parametrize(("affected_count", "next_count"), [(0, 22), (300, 12)], ids=["broken flag", "surge"])
def test_averages_leave_out_the_day_after_an_affected_day(affected_count: int, next_count: int) -> None:
    """After a broken flag, its count is that of several days; after a surge, it is that of one day."""
    days = pd.date_range("2024-10-01", periods=5)
    rows = pd.DataFrame({"_partition_date": days, "new_high_quality_leads": [535, 10, affected_count, next_count, 8]})
    answer = daily.new_high_quality_leads_per_day(rows, broken_flag("2024-10-03"))
    assert answer.sentence == (
        "After the first day (without 2 days, because of anomalies), 18 leads became high quality: 9.0 a day "
        "on average, and most in the snapshot of 2 October 2024: 10."
    )


def test_no_day_is_called_affected_because_it_follows_one() -> None:
    rows = pd.DataFrame({"_partition_date": DAYS[:2], "new_high_quality_leads": [535, 10]})
    answer = daily.new_high_quality_leads_per_day(rows, broken_flag("2024-10-01"))
    assert answer.sentence == (
        "Because of anomalies, it is not known how many leads became high quality after the first day."
    )


def test_quality_of_a_single_snapshot_is_stated_once() -> None:
    flags = ["High Quality", "Low Quality"]
    rows = pd.DataFrame({"_partition_date": DAYS[[0, 0]], "lead_quality_flag": flags, "lead_count": [1, 3]})
    days = pd.DataFrame({"_partition_date": DAYS[:1], "total_leads": [4]})
    sentence = daily.lead_quality_per_day(rows, days, NO_ANOMALIES).sentence
    assert sentence == "High-quality leads were 25.0 % of the snapshot of 1 October 2024."


@pytest.mark.parametrize("status", ["failed", "refused", "aborted"])
def test_checks_of_an_incomplete_run_are_not_said_to_have_found_nothing(status: str) -> None:
    ended = pd.to_datetime(["2024-10-23 06:15"])
    message = "step 2: data_3.csv is empty"
    last_runs = pd.DataFrame({"ended_at": ended, "status": [status], "message": [message], "checks": [None]})
    answer = runs.run_checks(last_runs)
    assert answer.sentence == (
        f"The run that ended 2024-10-23 06:15 UTC has the status {status}: step 2: data_3.csv is empty"
    )
