"""Read the files of a sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from etl.local.sample_data import SampleData


def lines(sample: SampleData, number: int) -> list[str]:
    return (sample.target / f"SFTP/data_{number}.csv").read_text(encoding="utf-8").split("\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def raw_leads(sample: SampleData) -> pd.DataFrame:
    return pd.read_parquet(sample.target / "parquet/leads.parquet")


def clean_leads(sample: SampleData) -> pd.DataFrame:
    leads = raw_leads(sample).dropna()
    for column in ("phone_hash", "email_hash"):
        leads[column] = leads[column].str.strip().str.lower()
    return leads.drop_duplicates(ignore_index=True)
