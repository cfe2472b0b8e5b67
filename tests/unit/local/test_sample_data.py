"""The sample has the size of the real data, and equal bytes for equal parameters."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from sample_reader import clean_leads, contents, lines, raw_leads

from etl.local import demo, sample_data
from etl.local.sample_data import SampleData, write_sample

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
    assert sample.days == 22
    assert 81_500 < sample.rows < 83_000
    assert len(snapshots) == sample.rows - 17
    assert snapshots["LEADNUMBER"].nunique() == sample.lead_numbers == 4434
    assert len(leads) == sample.leads == 4364
    assert leads.nunique().tolist() == [4364, 4364, 4364]


def test_command_writes_a_sample_of_another_size(tmp_path: Path) -> None:
    done = CliRunner().invoke(sample_data.main, [str(tmp_path / "large"), "--scale", "2", "--days", "1"])
    assert done.exit_code == 0, done.output
    rows = len((tmp_path / "large/SFTP/data_1.csv").read_text().splitlines()) - 1
    assert done.output == f"{rows:,} rows of snapshots and 8,728 leads written to {tmp_path / 'large'}\n"
    assert len(pd.read_parquet(tmp_path / "large/parquet/leads.parquet").dropna()) > 8728
    assert rows > 7000


@pytest.mark.parametrize("option", ["--scale=0", "--scale=-1", "--days=0"])
def test_size_of_the_sample_must_be_positive(tmp_path: Path, option: str) -> None:
    done = CliRunner().invoke(sample_data.main, [str(tmp_path / "empty"), option])
    assert (done.exit_code, option.partition("=")[0] in done.output) == (2, True)
    assert not (tmp_path / "empty").exists()


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


def test_sample_has_the_pinned_content(sample: SampleData) -> None:
    digest = hashlib.sha256()
    for number in range(1, 23):
        digest.update("\n".join(lines(sample, number)).encode())
    digest.update(raw_leads(sample).to_csv(index=False).encode())
    assert digest.hexdigest() == DIGEST_AT_SCALE_1, "increment SAMPLE_VERSION in demo.py, then update the digest"


def test_sample_is_written_over_an_earlier_one(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "sample", scale=0.02, days=3)
    before = contents(sample.target)
    (sample.target / "SFTP/data_2.csv").write_text("truncated")
    added = sample.target / "SFTP/data_4.csv"
    added.write_text("of the user")
    assert write_sample(sample.target, scale=0.02, days=3) == sample
    assert added.read_text() == "of the user"
    added.unlink()
    assert contents(sample.target) == before


def test_demo_writes_its_sample_once_per_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    edited = demo.sample_folder() / "SFTP" / "data_1.csv"
    original = edited.read_bytes()
    edited.write_bytes(b"edited")
    assert demo.sample_folder() == Path(".local/sample")
    assert edited.read_bytes() == b"edited"
    monkeypatch.setattr(demo, "SAMPLE_VERSION", "next")
    demo.sample_folder()
    assert edited.read_bytes() == original
