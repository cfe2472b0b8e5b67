"""Output of a whole run: on a terminal of 80 columns, into a pipe, and as JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support import PROJECT, Bucket, environment_of, read_terminal

from etl.utils.utils_connection import Settings

Python = Callable[..., subprocess.CompletedProcess[str]]
COLUMNS = 80


@pytest.fixture
def valid_environment(settings: Settings, bucket: Bucket) -> dict[str, str]:
    """Return an environment whose run succeeds."""
    for number in (1, 2, 3):
        bucket.put_snapshot(number, [{"LEADNUMBER": str(lead)} for lead in range(5)])
    bucket.put_leads([("u1", "p1", "e1"), ("u2", "p2", "e2")])
    return environment_of(settings)


@pytest.fixture
def refused(valid_environment: dict[str, str], bucket: Bucket) -> dict[str, str]:
    """Return an environment whose run refuses two files, with long messages."""
    bucket.put("SFTP/data_4.csv", b"a,b,c\n1,2,3\n")
    bucket.put_snapshot(5, [{}], header=["ENTRYDATE", "ENTRYDATE", "Lead No", "email_hash", "phone_hash"])
    return valid_environment


# --- JSON -------------------------------------------------------------------------------------------------------------


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_lines_have_run_step_and_event(python: Python, valid_environment: dict[str, str]) -> None:
    output_events = events(python("main.py", "--log-format", "json", environment=valid_environment))
    always = {"timestamp", "level", "run_id", "step", "event", "message", "counts", "seconds"}
    assert all(always <= event.keys() for event in output_events)
    assert output_events[0]["event"] == "run_started"
    assert {event["run_id"] for event in output_events} == {output_events[0]["run_id"]}
    finished = [event for event in output_events if event["event"] == "step_ended"]
    assert [event["step"] for event in finished] == [1, 2, 3, 4, 5, 6]
    assert all(event["seconds"] >= 0 for event in finished)
    assert finished[1]["counts"] == {
        "rows_in": 17,
        "rows_out": 17,
        "rejected": 0,
        "files": {"new": 4, "changed": 0, "skipped": 0, "refused": 0},
    }


def test_last_json_line_is_the_summary(python: Python, valid_environment: dict[str, str]) -> None:
    for _ in range(2):
        last = events(python("main.py", "--log-format", "json", "--log-level", "error", environment=valid_environment))[
            -1
        ]
    assert (last["event"], last["status"], last["exit_code"], last["error"]) == ("run_ended", "complete", 0, None)
    assert last["counts"]["files"] == {"new": 0, "changed": 0, "skipped": 4, "refused": 0}
    assert last["counts"]["days"] == {"cleaned": 0, "typed": 0, "published": 0}
    assert last["counts"]["rows_per_table"]["silver.stg_csv_snapshots"] == 15


def test_refusal_in_json_has_a_hint(python: Python, refused: dict[str, str]) -> None:
    done = python("main.py", "--log-format", "json", "--log-level", "warning", environment=refused)
    output_events = events(done)
    assert done.returncode == 2
    run_id = output_events[-1]["run_id"]
    assert run_id is not None
    events_of_files = [event for event in output_events if event["event"] == "file_refused"]
    assert [(event["step"], event["run_id"]) for event in events_of_files] == [(2, run_id), (2, run_id)]
    assert (output_events[-1]["event"], output_events[-1]["status"], output_events[-1]["exit_code"]) == (
        "run_ended",
        "refused",
        2,
    )
    assert output_events[-1]["error"]["kind"] == "DataRefusedError"
    assert "SFTP/data_4.csv" in output_events[-1]["error"]["message"]
    assert output_events[-1]["error"]["hint"]


def test_configuration_error_in_json_is_one_object(python: Python) -> None:
    done = python("main.py", "--log-format", "json", environment={})
    (event,) = events(done)
    assert done.returncode == 1
    assert (event["event"], event["level"], event["error"]["kind"]) == ("error", "error", "SettingsError")


def test_json_debug_lines_contain_no_secret(python: Python, valid_environment: dict[str, str]) -> None:
    done = python("main.py", "--log-format", "json", "--log-level", "debug", environment=valid_environment)
    events(done)
    assert valid_environment["POSTGRES_PASSWORD"] not in done.stdout


# --- Pipe -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}], ids=["plain", "forced"])
def test_piped_output_has_no_control_characters(
    python: Python, refused: dict[str, str], forced: dict[str, str]
) -> None:
    done = python("main.py", environment=refused | forced)
    assert done.returncode == 2
    assert "refused" in done.stdout
    assert "error: step 2" in done.stderr
    for line in (done.stdout + done.stderr).splitlines():
        assert line.isprintable(), line


def test_piped_unchanged_run_imports_no_optional_library(python: Python, valid_environment: dict[str, str]) -> None:
    assert python("main.py", environment=valid_environment).returncode == 0
    done = python("-X", "importtime", str(PROJECT / "main.py"), environment=valid_environment)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "psycopg2" in imported
    assert imported & {"rich", "pandas", "matplotlib", "jinja2", "pythonjsonlogger"} == set()


# --- Terminal ---------------------------------------------------------------------------------------------------------


def on_terminal(environment: Mapping[str, str], folder: Path) -> str:
    """All that a run writes to a terminal of 80 columns, control characters and all."""
    read_end, write_end = pty.openpty()
    size = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "40"}
    base_environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "main.py")],
        cwd=folder,
        stdout=write_end,
        stderr=write_end,
        env={**base_environment, **size, **environment},
    )
    os.close(write_end)
    seen = read_terminal(read_end)
    process.wait(timeout=60)
    return seen.replace("\r\n", "\n")


CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|9[0-7]|38;[0-9;]+)m")


def test_terminal_output_colours_errors_unless_no_color_is_set(refused: dict[str, str], tmp_path: Path) -> None:
    coloured = on_terminal(refused, tmp_path)
    assert COLOUR.search(coloured)
    assert "\x1b[1;31merror: " in coloured
    plain = on_terminal(refused | {"NO_COLOR": "1"}, tmp_path)
    assert not COLOUR.search(plain)
    assert "error: " in plain


def test_terminal_output_fits_the_width(refused: dict[str, str], tmp_path: Path) -> None:
    lines = CONTROL.sub("", on_terminal(refused, tmp_path)).replace("\r", "\n").split("\n")
    assert [line for line in lines if len(line) > COLUMNS] == []


def test_dumb_terminal_gets_plain_output(refused: dict[str, str], tmp_path: Path) -> None:
    assert "\x1b" not in on_terminal(refused | {"TERM": "dumb"}, tmp_path)


def test_output_in_tmux_does_not_wrap_at_80_columns(refused: dict[str, str], tmp_path: Path) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("tmux is not installed")
    socket, finished = f"homebuddy-{uuid.uuid4().hex[:8]}", tmp_path / "finished"
    run = shlex.join([sys.executable, str(PROJECT / "main.py")])
    base_environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TERM": "xterm-256color"}

    def ask(*arguments: str) -> str:
        command = [tmux, "-u", "-f", "/dev/null", "-L", socket, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=base_environment | refused, capture_output=True, text=True, check=True
        ).stdout

    ask("new-session", "-d", "-x", str(COLUMNS), "-y", "100", f"{run}; touch {shlex.quote(str(finished))}; sleep 60")
    try:
        deadline = time.monotonic() + 60
        while not finished.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        screen = ask("capture-pane", "-p")
        with_wrapped_lines_joined = ask("capture-pane", "-p", "-J")
    finally:
        ask("kill-server")
    assert "error: step 2" in screen
    assert "bronze.csv_snapshots" in screen
    assert [line.rstrip() for line in screen.splitlines()] == [
        line.rstrip() for line in with_wrapped_lines_joined.splitlines()
    ]
