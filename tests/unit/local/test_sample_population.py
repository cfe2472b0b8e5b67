"""The sample has the places, statuses and matches of the real data (specification §3)."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

NO_VALUE_HASH = hashlib.sha1(b"").hexdigest()


# --- States and places ------------------------------------------------------------------------------------------------


def test_states_are_mostly_western_and_some_are_missing(snapshots: pd.DataFrame) -> None:
    given = snapshots[snapshots["day"] <= 20]
    counts = given["STATE"].value_counts()
    assert list(counts.index[:4]) == ["WA", "AZ", "NV", "OR"]
    assert set(counts.index) == {"WA", "AZ", "NV", "OR", "ID", "IL", "CT", "MA", "  ", "nu"}
    for dirty_value in ("  ", "nu"):
        assert set(given.loc[given["STATE"] == dirty_value, "day"]) == set(range(1, 21))


def test_state_is_only_in_the_location_from_file_21(snapshots: pd.DataFrame) -> None:
    late = snapshots[snapshots["day"] >= 21]
    assert set(late["STATE"]) == {""}
    assert late["location"].str.fullmatch(r".* \| [A-Z]{2}").mean() > 0.99
    assert {" |   ", " | nu"} <= set(late["location"])


def test_locations_are_city_and_state(snapshots: pd.DataFrame) -> None:
    located = snapshots[snapshots["day"].between(13, 20)]
    assert (located["location"] == located["CITY"] + " | " + located["STATE"]).all()
    for dirty_value in (" |   ", " | nu"):
        assert set(located.loc[located["location"] == dirty_value, "day"]) == set(range(13, 21))
    assert snapshots.loc[snapshots["day"] < 13, "location"].isna().all()


def test_cities_are_padded_or_blank_in_some_rows(snapshots: pd.DataFrame) -> None:
    cities = snapshots["CITY"]
    padded = cities != cities.str.rstrip()
    assert 0.04 < padded.mean() < 0.1
    assert (cities.str.len() == 28).mean() == pytest.approx(0.06, abs=0.02)
    assert (cities != cities.str.lstrip()).any()
    assert set(snapshots.loc[cities == "", "day"]) == set(range(1, 23))
    assert (cities == " " * 28).any()
    assert cities.str.len().max() <= 100


def test_zips_are_five_digits_or_empty_or_zero(snapshots: pd.DataFrame) -> None:
    zips = snapshots["ZIP"]
    assert zips.str.fullmatch(r"\d{5}|0|").all()
    for dirty_value in ("", "0"):
        assert set(snapshots.loc[zips == dirty_value, "day"]) == set(range(1, 23))


def test_zips_with_a_leading_zero_are_in_new_england(snapshots: pd.DataFrame) -> None:
    given = snapshots[snapshots["day"] <= 20]
    leading_zero = given["ZIP"].str.fullmatch(r"0\d{4}")
    assert set(given.loc[leading_zero, "STATE"]) == {"CT", "MA"}
    assert leading_zero.sum() == given["STATE"].isin(["CT", "MA"]).sum()


# --- Statuses ---------------------------------------------------------------------------------------------------------


def test_dispositions_are_many_and_short(snapshots: pd.DataFrame) -> None:
    assert {"Sale", "Data", "CXL-BT"} <= set(snapshots["Dispo"])
    assert 38 <= snapshots["Dispo"].nunique() <= 42
    assert snapshots["Dispo"].str.len().between(1, 50).all()
    assert snapshots["Dispo"].str.contains("\\", regex=False).any()


def test_only_sales_have_a_job_status(snapshots: pd.DataFrame) -> None:
    has_status = snapshots["Job Status"] != ""
    assert (has_status == (snapshots["Dispo"] == "Sale")).all()
    assert snapshots.loc[has_status, "Job Status"].nunique() == 13


def test_demos_mostly_have_an_appointment_set(snapshots: pd.DataFrame) -> None:
    demo, is_set = snapshots["Demo"].isin(["1", "True"]), snapshots["Set"] == "1"
    assert 0.95 < (demo & is_set).sum() / demo.sum() < 1
    assert 0.04 < (is_set & ~demo).mean() < 0.07


def test_a_few_leads_per_day_reach_high_quality(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    high = snapshots.index[(snapshots["Set"] == "1") & snapshots["Demo"].isin(["1", "True"])]
    first_day = matches[matches["row"].isin(high)].groupby("lead_UUID")["day"].min()
    per_day = first_day.value_counts().reindex(range(1, 23), fill_value=0)
    assert 500 < per_day[1] < 570
    assert per_day[2:].between(1, 20).all()


def test_leads_appear_disappear_and_return(snapshots: pd.DataFrame) -> None:
    days = snapshots.groupby("LEADNUMBER")["day"].agg(["min", "max", "nunique"])
    assert set(days["min"]) == set(range(1, 23))
    assert set(days["max"]) == set(range(1, 23))
    assert (days["nunique"] == 22).mean() > 0.6
    assert (days["nunique"] < days["max"] - days["min"] + 1).any()


def test_statuses_progress_from_day_to_day(snapshots: pd.DataFrame) -> None:
    ordered = snapshots.assign(Demo=snapshots["Demo"].replace({"True": "1", "False": "0"}))
    ordered = ordered.sort_values(["LEADNUMBER", "day"])
    before = ordered.groupby("LEADNUMBER")[["Set", "Demo", "Appt Date", "Dispo", "Job Status"]].shift()
    became_set = (before["Set"] == "0") & (ordered["Set"] == "1")
    cancelled = (before["Appt Date"].fillna("") != "") & (ordered["Appt Date"] == "")
    known_before = before["Dispo"].notna()
    both_dates = (before["Appt Date"].fillna("") != "") & (ordered["Appt Date"] != "")
    assert became_set.sum() > 20
    assert ((before["Demo"] == "0") & (ordered["Demo"] == "1")).sum() > 20
    assert not ((before["Demo"] == "1") & (ordered["Demo"] == "0")).any()
    assert (ordered.loc[became_set, "Appt Date"] != "").all()
    assert (both_dates & (before["Appt Date"] != ordered["Appt Date"])).any()
    assert cancelled.any()
    assert ((before["Set"] == "1") & (ordered["Dispo"] == "CXL-BT") & (before["Dispo"] != "CXL-BT")).any()
    assert (known_before & (before["Dispo"] != ordered["Dispo"])).sum() > 200
    assert (known_before & (before["Job Status"] != ordered["Job Status"])).sum() > 40


# --- Matches ----------------------------------------------------------------------------------------------------------


def test_every_match_scenario_occurs_every_day(matches: pd.DataFrame) -> None:
    scenarios = {
        "both": matches["email"] & matches["phone"],
        "email_only": matches["email"] & ~matches["phone"],
        "phone_only": ~matches["email"] & matches["phone"],
        "none": matches["lead_UUID"].isna(),
    }
    for scenario in scenarios.values():
        assert set(matches.loc[scenario, "day"]) == set(range(1, 23))
    shares = {name: scenario.mean() for name, scenario in scenarios.items()}
    assert shares["both"] > 0.98
    assert 0.006 < shares["email_only"] < 0.012
    assert 0.0005 < shares["phone_only"] < 0.003
    assert 0.0005 < shares["none"] < 0.003


def test_a_few_rows_per_day_match_two_leads(matches: pd.DataFrame) -> None:
    leads_per_row = matches.groupby("row")["lead_UUID"].nunique()
    assert leads_per_row.max() == 2
    two = matches[matches["row"].isin(leads_per_row.index[leads_per_row == 2])].drop_duplicates("row")
    assert two.groupby("day").size().reindex(range(1, 23), fill_value=0).between(2, 10).all()


def test_hash_of_the_empty_value_is_in_both_columns_of_unrelated_rows(
    snapshots: pd.DataFrame, leads: pd.DataFrame
) -> None:
    for column, least in (("email_hash", 5), ("phone_hash", 2)):
        rows = snapshots[snapshots[column] == NO_VALUE_HASH]
        other = "phone_hash" if column == "email_hash" else "email_hash"
        assert (rows.groupby("day")[other].nunique().reindex(range(1, 23), fill_value=0) >= least).all()
        assert (leads[column] == NO_VALUE_HASH).sum() == 1


def test_a_few_backend_leads_never_appear(matches: pd.DataFrame, leads: pd.DataFrame) -> None:
    assert 1 <= (~leads["lead_UUID"].isin(matches["lead_UUID"])).sum() <= 20


def test_some_leads_have_several_lead_numbers(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    both = matches[matches["email"] & matches["phone"]]
    assert (snapshots.loc[both["row"], "LEADNUMBER"].groupby(both["lead_UUID"].to_numpy()).nunique() > 1).any()
