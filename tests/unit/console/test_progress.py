"""Progress output: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys

import pytest
from support import PROJECT, read_terminal

from etl.console import progress as progress_module

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
WORK = """
import logging, time
from etl.console.output import configure_logging
from etl.console.progress import progress
configure_logging("info")
with progress(3) as advance:
    for day in range(3):
        advance(1000)
        logging.getLogger("etl").info("day %d is done", day)
        logging.getLogger("etl").warning("day %d is odd [1/2]", day)
        time.sleep(0.2)
print("the summary")
"""


def test_progress_bar_on_a_terminal_shows_days_and_rows_below_warnings() -> None:
    read_end, write_end = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", WORK], stderr=write_end, stdout=subprocess.PIPE, env=environment)
    os.close(write_end)
    text = read_terminal(read_end)
    lines, _ = process.communicate(timeout=30)
    assert lines == b"the summary\n"
    assert "2/3" in text
    assert "2,000 rows" in text
    assert "day 2 is odd [1/2]" in text
    assert "is done" not in text, "the bar replaces these lines"
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", CONTROL.sub("", text)))


def test_progress_in_a_log_is_lines_without_control_characters(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO), progress_module.progress(3) as advance:
        for rows in (1000, 500, 500):
            advance(rows)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" rows")[0] for line in lines] == ["1 of 3 tasks done, 1,000", "2 of 3 tasks done, 1,500"]
    assert all(line.isprintable() and line.endswith("s left") for line in lines)


def test_short_work_shows_no_progress(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress_module.progress(2) as advance:
        advance(1)
        advance(1)
    assert caplog.records == []


def test_piped_progress_has_no_control_characters() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.replace("\n", "").isprintable()
    assert [line[9:] for line in done.stderr.splitlines()] == [
        line for day in range(3) for line in (f"INFO    day {day} is done", f"WARNING day {day} is odd [1/2]")
    ]
