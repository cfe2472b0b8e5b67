"""Runs that begin at the same time: one works, the others say so and leave."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest
from scenario import LONG, Story, assert_as_after_a_clean_run, assert_one_clear_error, started
from support import Warehouse

from etl.utils.utils_connection import Settings

CROWDS = [2, 8] * 10 if LONG else [3]
SECONDS_TO_LEAVE = 15  # a bound, not a measurement: several Pythons start at once on few cores


@pytest.mark.parametrize("crowd", CROWDS)
def test_runs_that_begin_at_the_same_time(story: Story, settings: Settings, tmp_path: Path, crowd: int) -> None:
    """They all start before the first one can be done: its work takes longer than their start."""
    with ExitStack() as stack, ThreadPoolExecutor(crowd) as watchers:
        processes = [
            stack.enter_context(started(tmp_path, settings, program=Path(__file__).with_name("slow_run.py")))
            for _ in range(crowd)
        ]
        endings = list(watchers.map(ending_of, processes))
    codes = sorted(code for code, _, _ in endings)
    assert codes == [0] + [3] * (crowd - 1), endings
    for code, said, seconds in endings:
        if code == 3:
            assert_one_clear_error(said, settings.postgres_db, "another run", "meta.pipeline_runs")
            assert seconds < SECONDS_TO_LEAVE
    assert_as_after_a_clean_run(story, settings)
    assert Warehouse(settings).value("select count(*) from meta.pipeline_runs") == 2, "the losers write nothing"


def ending_of(process: Popen[str]) -> tuple[int, str, float]:
    """Exit code, what was said, and the seconds from the first look at the lock."""
    assert process.stdout is not None
    process.stdout.readline()
    asked = time.monotonic()
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - asked
