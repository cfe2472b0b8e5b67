"""The sample has the places, statuses and matches of the real data (specification §3)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest
from sample_reader import clean_leads, hashes_of, lines

from etl.local.sample_data import SampleData, write_sample

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


def test_set_is_1_exactly_where_an_appointment_is_given_until_the_export_breaks(snapshots: pd.DataFrame) -> None:
    is_set, given = snapshots["Set"] == "1", snapshots["Appt Date"] != ""
    sound = snapshots["day"] <= 15
    assert (is_set == given)[sound].all()
    assert not is_set[~sound].any()
    assert given.groupby(snapshots["day"]).sum().between(740, 840).all()


def test_each_demo_has_an_appointment(snapshots: pd.DataFrame) -> None:
    demo, given = snapshots["Demo"].isin(["1", "True"]), snapshots["Appt Date"] != ""
    assert not (demo & ~given).any()
    assert 0.04 < (given & ~demo).mean() < 0.07


def test_daily_shares_are_as_stable_as_in_the_real_files(snapshots: pd.DataFrame) -> None:
    """On the real files no share leaves a range of 0.6 % of the rows, over all days."""
    day = snapshots["day"]
    shares = pd.DataFrame(
        {
            "appointment": (snapshots["Appt Date"] != "").groupby(day).mean(),
            "demo": snapshots["Demo"].isin(["1", "True"]).groupby(day).mean(),
            "city": (snapshots["CITY"].str.strip() == "").groupby(day).mean(),
            "zip": (snapshots["ZIP"] == "").groupby(day).mean(),
            "state": snapshots.loc[day <= 20, "STATE"].isin(["  ", "nu"]).groupby(day).mean(),
            "job status": (snapshots["Job Status"] == "").groupby(day).mean(),
        }
    ).join(pd.crosstab(day, snapshots["Dispo"], normalize="index"))
    spread = shares.max() - shares.min()
    assert spread.max() < 0.007, spread.idxmax()
    crossing = (shares.max() > 0.01) & (shares.min() < 0.01)
    assert not crossing.any(), "a disposition that is frequent on some days only"


def test_new_leads_and_status_changes_are_as_many_on_each_day(snapshots: pd.DataFrame) -> None:
    status = snapshots.assign(Demo=snapshots["Demo"].replace({"True": "1", "False": "0"}))
    status = status.set_index(["day", "LEADNUMBER"])[["Demo", "Appt Date", "Dispo", "Job Status"]]
    for day in range(2, 23):
        before, after = status.loc[day - 1].align(status.loc[day], join="inner", axis=0)
        assert 10 < (before != after).any(axis=1).sum() < 60
    first_day = snapshots.groupby("LEADNUMBER")["day"].min().value_counts()
    assert first_day[range(2, 23)].between(15, 45).all()


def test_a_few_leads_per_day_reach_high_quality(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    high = snapshots.index[(snapshots["Set"] == "1") & snapshots["Demo"].isin(["1", "True"])]
    first_day = matches[matches["row"].isin(high)].groupby("lead_UUID")["day"].min()
    per_day = first_day.value_counts().reindex(range(1, 23), fill_value=0)
    assert 500 < per_day[1] < 570
    assert per_day[range(2, 16)].between(1, 20).all()
    assert (per_day[range(16, 23)] == 0).all()


def test_leads_appear_disappear_and_return(snapshots: pd.DataFrame) -> None:
    days = snapshots.groupby("LEADNUMBER")["day"].agg(["min", "max", "nunique"])
    assert set(days["min"]) == set(range(1, 23))
    assert set(days["max"]) == set(range(1, 23))
    assert (days["nunique"] == 22).mean() > 0.6
    missing = days["max"] - days["min"] + 1 - days["nunique"]
    assert set(missing) == {0, 1, 2, 3, 4}
    assert 20 < (missing > 0).sum() < 60


def test_some_leads_appear_only_days_after_their_entry(snapshots: pd.DataFrame) -> None:
    first = snapshots.sort_values("day").drop_duplicates("LEADNUMBER")
    first = first[first["day"] > 1]
    entry_day = (pd.to_datetime(first["ENTRYDATE"], format="%m/%d/%Y") - pd.Timestamp("2024-09-30")).dt.days
    lateness = first["day"] - entry_day
    assert lateness.between(0, 20).all()
    assert 5 < (lateness > 1).sum() < 40
    assert (lateness > 10).any()


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


def test_a_few_backend_leads_never_appear_or_only_tomorrow(
    sample: SampleData, matches: pd.DataFrame, leads: pd.DataFrame, tmp_path: Path
) -> None:
    unseen = leads[~leads["lead_UUID"].isin(matches["lead_UUID"])]
    assert 1 <= len(unseen) <= 20
    tomorrow = write_sample(tmp_path / "tomorrow", days=23)
    assert lines(tomorrow, 22) == lines(sample, 22)
    assert 1 <= unseen["email_hash"].isin(hashes_of(tomorrow, 23)).sum() < len(unseen)


def test_a_few_leads_are_in_the_parquet_only_tomorrow(
    sample: SampleData, snapshots: pd.DataFrame, leads: pd.DataFrame, tmp_path: Path
) -> None:
    later = clean_leads(write_sample(tmp_path / "tomorrow", days=23))
    assert set(leads["lead_UUID"]) < set(later["lead_UUID"])
    added = later[~later["lead_UUID"].isin(leads["lead_UUID"])]
    today = snapshots[snapshots["day"] == sample.days]
    waiting = today[today["email_hash"].isin(added["email_hash"])]
    assert 1 <= len(waiting) <= 5
    assert not waiting["phone_hash"].isin(leads["phone_hash"]).any()


def test_some_leads_have_several_lead_numbers(snapshots: pd.DataFrame, matches: pd.DataFrame) -> None:
    both = matches[matches["email"] & matches["phone"]]
    assert (snapshots.loc[both["row"], "LEADNUMBER"].groupby(both["lead_UUID"].to_numpy()).nunique() > 1).any()
