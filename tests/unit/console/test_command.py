"""Command line: errors of the machine show cause and a hint that fits; a dry run counts files."""

from __future__ import annotations

import pytest

from etl.console.command import run_cli
from etl.engine.dry_run import Plan, SourceFiles
from etl.utils.errors import DataRefusedError

DISK = "check the free disk space and the limits of this machine, then rerun"
FILE = "check that the file or folder exists, its permissions, and the free disk space, then rerun"


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (OSError("Invalid footer"), f"error: Invalid footer\n  → {DISK}\n"),
        (OSError(28, "No space left on device"), f"error: No space left on device\n  → {DISK}\n"),
        (OSError(13, "Permission denied", "x.csv"), f"error: Permission denied: x.csv\n  → {FILE}\n"),
        (TimeoutError(), f"error: TimeoutError\n  → {DISK}\n"),
    ],
)
def test_error_of_the_machine_shows_cause_and_hint(
    capsys: pytest.CaptureFixture[str], error: OSError, printed: str
) -> None:
    def fail() -> int:
        raise error

    assert run_cli(fail) == 1
    assert capsys.readouterr().err == printed


def test_error_of_the_machine_names_the_step_in_which_the_run_was(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        error = OSError("Invalid footer")
        error.add_note("step 2 (S3 → bronze)")
        raise error

    assert run_cli(fail) == 1
    assert capsys.readouterr().err == f"error: step 2 (S3 → bronze): Invalid footer\n  → {DISK}\n"


@pytest.mark.parametrize("error", [ValueError("of the code"), OSError("of the machine")])
def test_traceback_of_an_error_is_logged_once(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    def fail() -> int:
        raise error

    with caplog.at_level("DEBUG"):
        assert run_cli(fail) == 1
    assert caplog.messages == ["traceback:"]
    assert f"{type(error).__name__}: {error}" in caplog.text


def test_dry_run_counts_refused_files_but_not_refused_days() -> None:
    day = "no file for 2024-10-02 (file number 2)"
    refused = [
        DataRefusedError("s3://bucket/SFTP/data_9.csv: its snapshot day is in the future"),
        DataRefusedError(day),
    ]
    plan = Plan(SourceFiles(refused=refused, incomplete=[day]), {}, [])
    assert plan.file_counts["refused"] == 1
