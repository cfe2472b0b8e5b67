"""The sample has the size of the real data, equal bytes for equal parameters, and is replaced as a whole."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sample_reader import clean_leads, contents, lines, raw_leads

from etl.local import sample_data
from etl.local.sample_data import SampleData, ensure_sample, write_sample
from etl.utils.errors import PipelineError

DIGEST_AT_SCALE_1 = "491d993654f22e3822a178bc40e2e57d381f872fcdda1949f71f2052e8dda26d"
LATEST_HEADER = (
    "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,STATE,ZIP,Appt Date,Demo,Set,Dispo,Job Status,CityName,location"
)

# --- Size -------------------------------------------------------------------------------------------------------------


def test_scale_1_has_the_size_of_the_real_data(
    sample: SampleData, snapshots: pd.DataFrame, leads: pd.DataFrame
) -> None:
    names = {file.name for file in (sample.target / "SFTP").iterdir()}
    assert names == {f"data_{number}.csv" for number in range(1, 23)}
    assert sample.files == 22
    assert 81_500 < sample.rows < 83_000
    assert len(snapshots) == sample.rows - 17
    assert snapshots["LEADNUMBER"].nunique() == sample.lead_numbers == 4434
    assert len(leads) == sample.leads == 4364
    assert leads.nunique().tolist() == [4364, 4364, 4364]


def test_each_day_has_about_as_many_rows_as_the_day_before(snapshots: pd.DataFrame) -> None:
    rows = snapshots.groupby("day").size()
    assert rows.between(3640, 3830).all()
    assert rows.nunique() > 15


def test_lead_number_is_unique_within_a_file(snapshots: pd.DataFrame) -> None:
    assert not snapshots.duplicated(["day", "LEADNUMBER"]).any()


def test_scale_2_has_twice_the_leads_and_rows(sample: SampleData, tmp_path: Path) -> None:
    double = write_sample(tmp_path / "sample", scale=2)
    assert (double.leads, double.lead_numbers) == (2 * sample.leads, 2 * sample.lead_numbers)
    assert len(clean_leads(double)) == double.leads
    assert double.rows == pytest.approx(2 * sample.rows, rel=0.002)


def test_longer_sample_begins_with_the_files_of_a_shorter_one(tmp_path: Path) -> None:
    short = write_sample(tmp_path / "short", scale=0.05, days=22)
    long = write_sample(tmp_path / "long", scale=0.05, days=60)
    for number in range(1, 23):
        assert lines(long, number) == lines(short, number)
    assert lines(long, 60)[0] == LATEST_HEADER
    assert len(lines(long, 60)) > 0.9 * len(lines(short, 22))
    assert set(clean_leads(short)["lead_UUID"]) < set(clean_leads(long)["lead_UUID"])


def test_shorter_sample_has_fewer_files_but_all_leads(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "sample", scale=0.5, days=2)
    assert [file.name for file in sorted((sample.target / "SFTP").iterdir())] == ["data_1.csv", "data_2.csv"]
    assert sample.leads == len(clean_leads(sample)) == 2182


# --- Reproducibility --------------------------------------------------------------------------------------------------


def test_same_parameters_give_the_same_bytes(sample: SampleData, tmp_path: Path) -> None:
    again = write_sample(tmp_path / "again")
    assert contents(again.target) == contents(sample.target)


def test_another_seed_gives_other_data_of_the_same_size(sample: SampleData, tmp_path: Path) -> None:
    other = write_sample(tmp_path / "other", days=1, seed=7)
    assert lines(other, 1) != lines(sample, 1)
    assert len(lines(other, 1)) == len(lines(sample, 1))
    assert other.leads == sample.leads


def test_bytes_change_only_with_the_generator_version(sample: SampleData) -> None:
    digest = hashlib.sha256()
    for number in range(1, 23):
        digest.update("\n".join(lines(sample, number)).encode())
    digest.update(raw_leads(sample).to_csv(index=False).encode())
    assert digest.hexdigest() == DIGEST_AT_SCALE_1, "increment GENERATOR_VERSION, then update the digest"


# --- Files on disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> SampleData:
    return ensure_sample(tmp_path / "sample", scale=0.02, days=3)


def inodes(sample: SampleData) -> set[int]:
    return {file.stat().st_ino for file in sample.target.rglob("*")}


def test_complete_sample_is_not_written_again(small: SampleData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "write_sample", pytest.fail)
    assert ensure_sample(small.target, scale=0.02, days=3) == small


@pytest.mark.parametrize("changed", [{"scale": 0.03}, {"days": 4}, {"seed": 1}])
def test_other_parameters_replace_the_sample(small: SampleData, changed: dict[str, int]) -> None:
    before = contents(small.target)
    replaced = ensure_sample(small.target, **{"scale": 0.02, "days": 3, **changed})
    assert contents(small.target) != before
    assert replaced.files == changed.get("days", 3)


def test_another_generator_version_replaces_the_sample(small: SampleData, monkeypatch: pytest.MonkeyPatch) -> None:
    before = inodes(small)
    monkeypatch.setattr(sample_data, "GENERATOR_VERSION", -1)
    ensure_sample(small.target, scale=0.02, days=3)
    assert inodes(small).isdisjoint(before)


@pytest.mark.parametrize("name", ["SFTP/data_2.csv", "parquet/leads.parquet"])
def test_missing_or_truncated_file_is_restored(small: SampleData, name: str) -> None:
    before = contents(small.target)
    (small.target / name).unlink()
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    (small.target / name).write_bytes(before[name][:-1])
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    assert contents(small.target) == before


def test_interrupted_run_leaves_only_the_old_sample(small: SampleData, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(small.target.parent)
    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_sample(small.target, scale=0.02, days=4)
    assert contents(small.target.parent) == before
    assert [entry.name for entry in small.target.parent.iterdir()] == ["sample"]


def test_foreign_files_are_never_deleted(small: SampleData, tmp_path: Path) -> None:
    added = small.target / "SFTP/data_4.csv"
    added.write_text("precious")
    assert ensure_sample(small.target, scale=0.02, days=3) == small
    with pytest.raises(PipelineError, match=re.escape("SFTP/data_4.csv")):
        write_sample(small.target, scale=0.02, days=4)
    assert added.read_text() == "precious"

    (tmp_path / "real/SFTP").mkdir(parents=True)
    (tmp_path / "real/SFTP/data_1.csv").write_text("precious")
    with pytest.raises(PipelineError, match=r"files that are not sample data, such as SFTP/data_1\.csv"):
        write_sample(tmp_path / "real", scale=0.02)


def test_empty_folder_is_accepted_as_target(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    assert write_sample(target, scale=0.02, days=1).files == 1
