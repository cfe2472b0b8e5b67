"""Read the files of a sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from etl.local.sample_data import SampleData


def lines(sample: SampleData, number: int) -> list[str]:
    return (sample.target / f"SFTP/data_{number}.csv").read_text(encoding="utf-8").split("\n")


def as_the_crm_writes(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Return snapshots with the numbers of file 4 and the dates and flags of file 14 as in the other files."""
    fixed = snapshots.copy()
    floats, spreadsheet = fixed["day"] == 4, fixed["day"] == 14
    for column in ("LEADNUMBER", "ZIP"):
        fixed.loc[floats, column] = fixed.loc[floats, column].str.removesuffix(".0")
    dates = pd.to_datetime(fixed.loc[spreadsheet, "ENTRYDATE"], format="%m/%d/%Y")
    fixed.loc[spreadsheet, "ENTRYDATE"] = dates.dt.strftime("%m/%d/%Y")
    given = spreadsheet & (fixed["Appt Date"] != "")
    moments = pd.to_datetime(fixed.loc[given, "Appt Date"], format="%m/%d/%Y %H:%M")
    times = moments.dt.strftime("%I:%M%p").str.removeprefix("0").str.rjust(7)
    fixed.loc[given, "Appt Date"] = moments.dt.strftime("%m/%d/%Y ") + times
    fixed.loc[spreadsheet, "Demo"] = fixed.loc[spreadsheet, "Demo"].str.capitalize()
    return fixed


def hashes_of(sample: SampleData, number: int) -> set[str]:
    """Return the e-mail hashes of a file."""
    return set(pd.read_csv(sample.target / f"SFTP/data_{number}.csv", dtype=str)["email_hash"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def raw_leads(sample: SampleData) -> pd.DataFrame:
    return pd.read_parquet(sample.target / "parquet/leads.parquet")


def clean_leads(sample: SampleData) -> pd.DataFrame:
    leads = raw_leads(sample).dropna()
    for column in ("phone_hash", "email_hash"):
        leads[column] = leads[column].str.strip().str.lower()
    return leads.drop_duplicates(ignore_index=True)
