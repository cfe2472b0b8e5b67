"""Fixtures: a sample at scale 1, and its rows."""

from __future__ import annotations

import pandas as pd
import pytest
from sample_reader import as_the_crm_writes, clean_leads

from etl.local.sample_data import SampleData, write_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleData:
    return write_sample(tmp_path_factory.mktemp("samples") / "scale_1")


@pytest.fixture(scope="session")
def raw_snapshots(sample: SampleData) -> pd.DataFrame:
    """Read all rows of all files except separators; all cells are text, as in the files."""
    days = []
    for number in range(1, 23):
        day = pd.read_csv(sample.target / f"SFTP/data_{number}.csv", dtype=str, keep_default_na=False)
        day = day[day["LEADNUMBER"] != "-----"].rename(columns={"CityName": "CITY"})
        days.append(day.assign(day=number))
    return pd.concat(days, ignore_index=True)


@pytest.fixture(scope="session")
def snapshots(raw_snapshots: pd.DataFrame) -> pd.DataFrame:
    """Return the same rows; files that were saved by hand have the formats of the CRM."""
    return as_the_crm_writes(raw_snapshots)


@pytest.fixture(scope="session")
def leads(sample: SampleData) -> pd.DataFrame:
    return clean_leads(sample)


@pytest.fixture(scope="session")
def matches(snapshots: pd.DataFrame, leads: pd.DataFrame) -> pd.DataFrame:
    """Return one row per snapshot row and backend lead that share a hash, and one per snapshot row without lead."""
    rows = snapshots[["day", "email_hash", "phone_hash"]].rename_axis("row").reset_index()
    pairs = [rows.merge(leads[["lead_UUID", column]], on=column)[["row", "lead_UUID"]] for column in leads.columns[1:]]
    found = rows.merge(pd.concat(pairs).drop_duplicates(), on="row", how="left")
    found = found.merge(leads, on="lead_UUID", how="left", suffixes=("", "_of_lead"), validate="many_to_one")
    email, phone = (found[column] == found[f"{column}_of_lead"] for column in ("email_hash", "phone_hash"))
    return found.assign(email=email, phone=phone)
