"""`--demo --data DIR` checks DIR before it changes the warehouse, and `--demo` needs a folder that it can write to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.local import demo as demo_module
from etl.local.demo import check_data_folder, demo_environment
from etl.local.postgres_cluster import EmbeddedError
from etl.local.s3_server import files_to_upload
from etl.local.sample_data import write_sample
from etl.warehouse.run_history import RUN_LOCK

if TYPE_CHECKING:
    from conftest import Demo

NOBODY = 65534


@contextmanager
def as_normal_user() -> Iterator[None]:
    """Drop the rights of root, who may read and write everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def data() -> Iterator[Path]:
    """A valid folder, which any user can enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("SFTP/data_1.csv", "SFTP/data_2.csv", "parquet/leads.parquet"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text("content is not checked")
        yield folder


def remove_snapshots(data: Path) -> None:
    for file in data.glob("SFTP/*"):
        file.rename(file.with_name(f"other_{file.name}"))


def make_folder(data: Path) -> None:
    (data / "SFTP" / "data_3.csv").mkdir()


def make_dead_link(data: Path) -> None:
    (data / "SFTP" / "data_3.csv").symlink_to("/nonexistent/data_3.csv")


def make_pipe(data: Path) -> None:
    os.mkfifo(data / "SFTP" / "data_3.csv")


def make_unreadable(data: Path) -> None:
    (data / "SFTP" / "data_2.csv").chmod(0)


def make_unreadable_folder(data: Path) -> None:
    (data / "SFTP").chmod(0)


def remove_parquet_folder(data: Path) -> None:
    shutil.rmtree(data / "parquet")


def make_folder_of_parquet(data: Path) -> None:
    (data / "parquet" / "leads.parquet").unlink()
    (data / "parquet" / "leads.parquet").mkdir()


def test_valid_folder_is_accepted(data: Path) -> None:
    check_data_folder(data)


def test_compressed_snapshots_are_uploaded(data: Path) -> None:
    for name in ("data_3.csv.gz", "data_4.CSV", ".data_5.csv.swp", "notes.txt"):
        (data / "SFTP" / name).touch()
    uploaded = [file.name for file in files_to_upload(data)]
    assert uploaded == ["data_1.csv", "data_2.csv", "data_3.csv.gz", "data_4.CSV", "leads.parquet"]
    for name in ("data_1.csv", "data_2.csv"):
        (data / "SFTP" / name).unlink()
    check_data_folder(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "{data}/SFTP cannot be read: No such file or directory"),
        (remove_snapshots, "{data}/SFTP contains no data_*.csv"),
        (make_folder, "{data}/SFTP/data_3.csv is a folder, not a regular file"),
        (make_dead_link, "{data}/SFTP/data_3.csv is a broken symlink to /nonexistent/data_3.csv"),
        (make_pipe, "{data}/SFTP/data_3.csv is a special file, not a regular file"),
        (make_unreadable, "{data}/SFTP/data_2.csv cannot be read: Permission denied"),
        (make_unreadable_folder, "{data}/SFTP cannot be read: Permission denied"),
        (remove_parquet_folder, "{data}/parquet/leads.parquet does not exist"),
        (make_folder_of_parquet, "{data}/parquet/leads.parquet is a folder, not a regular file"),
    ],
)
def test_problem_of_folder_is_named(data: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(data)
    try:
        with as_normal_user(), pytest.raises(EmbeddedError) as caught:
            check_data_folder(data)
    finally:
        data.mkdir(exist_ok=True)
        if (data / "SFTP").exists():
            (data / "SFTP").chmod(0o755)
    assert caught.value.message == f"{message.format(data=data)}. The warehouse is unchanged"
    hint = "make it readable for this user" if "Permission denied" in message else "--data expects a folder with SFTP"
    assert str(caught.value.hint).startswith(hint)


def test_gold_is_kept_if_new_folder_has_a_problem(demo: Demo, data: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", scale=0.01, days=1)
    done = demo.run("--data", str(tmp_path / "sample"))
    assert done.returncode == 0, done.stderr
    before = demo.query("select count(*), min(_partition_date) from gold.lead_quality_matching")
    make_folder(data)
    remove_parquet_folder(tmp_path / "sample")
    for folder in (data, tmp_path / "sample", tmp_path / "missing"):
        done = demo.run("--data", str(folder))
        assert done.returncode == 1
        assert str(folder) in done.stderr
        assert "unexpected" not in done.stderr
    assert demo.query("select count(*), min(_partition_date) from gold.lead_quality_matching") == before


def test_warehouse_is_not_emptied_for_single_steps_or_while_a_run_is_active(
    demo: Demo, data: Path, tmp_path: Path
) -> None:
    write_sample(tmp_path / "sample", scale=0.01, days=1)
    assert demo.run("--data", str(tmp_path / "sample")).returncode == 0
    other_name = os.fsdecode(bytes(tmp_path) + b"/donn\xe9es")  # not UTF-8
    (tmp_path / "sample").rename(other_name)
    for is_other in (True, False):
        done = demo.run("--data", other_name)
        assert done.returncode == 0, done.stderr
        assert ("it was emptied" in done.stderr) == is_other
    Path(other_name).rename(tmp_path / "sample")
    assert demo.run("--data", str(tmp_path / "sample")).returncode == 0
    done = demo.run("--data", str(data), "--only-step", "6")
    assert done.returncode == 1
    assert f"contains data from {tmp_path / 'sample'}, not from {data}; only a run of all steps" in done.stderr
    run = demo.connect()
    run.cursor().execute("select pg_advisory_lock(%s)", (RUN_LOCK,))
    done = demo.run("--data", str(data))
    run.close()
    assert done.returncode == 3
    assert f"a run is active on the demo's warehouse, which contains data from {tmp_path / 'sample'}" in done.stderr
    assert demo.query("select count(*) > 0 from gold.lead_quality_matching") == [(True,)]


def test_folder_without_write_permission_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.chmod(0o555)
    monkeypatch.chdir(data)
    monkeypatch.setattr(demo_module, "ignore_environment", lambda: None)  # the environment of the tests is kept
    with as_normal_user(), pytest.raises(EmbeddedError) as caught, demo_environment(None, all_steps=True):
        pass
    data.chmod(0o755)
    assert caught.value.message == f"cannot use the folder {data}/.local: [Errno 13] Permission denied: '{data}/.local'"
    assert caught.value.hint
