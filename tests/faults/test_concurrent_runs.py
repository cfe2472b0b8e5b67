"""Runs that begin at the same time: one works, the others say so and leave."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest
from scenario import LONG, Story, advisory_locks, assert_as_after_a_clean_run, assert_one_clear_error, started
from support import Warehouse

from etl.utils.utils_connection import Settings

CROWDS = [2, 8] * 10 if LONG else [3]
SLOW_RUN = Path(__file__).with_name("slow_run.py")
SECONDS_TO_LEAVE = 2.0


@pytest.mark.parametrize("crowd", CROWDS)
def test_only_one_of_concurrent_runs_works(story: Story, settings: Settings, tmp_path: Path, crowd: int) -> None:
    """They all start before the first one can be done: its work takes longer than their start."""
    with ExitStack() as stack, ThreadPoolExecutor(crowd) as watchers:
        processes = [stack.enter_context(started(tmp_path, settings, program=SLOW_RUN)) for _ in range(crowd)]
        endings = list(watchers.map(ending_of, processes))
    assert sorted(code for code, _ in endings) == [0] + [3] * (crowd - 1), endings
    for code, said in endings:
        if code == 3:
            assert_one_clear_error(said, settings.postgres_db, "another run", "meta.pipeline_runs")
    assert_as_after_a_clean_run(story, settings)
    assert Warehouse(settings).value("select count(*) from meta.pipeline_runs") == 2, "the losers write nothing"


def test_second_run_exits_within_two_seconds(settings: Settings, tmp_path: Path) -> None:
    """Within two seconds; the short suite, which may share its machine, does not hold it to that."""
    with started(tmp_path, settings, program=SLOW_RUN) as first:
        deadline = time.monotonic() + 30
        while advisory_locks(settings) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        began = time.monotonic()
        with started(tmp_path, settings) as second:
            code, said = ending_of(second)
        seconds = time.monotonic() - began
        assert code == 3, said
        assert ending_of(first)[0] == 0
    if LONG:
        assert seconds < SECONDS_TO_LEAVE


def ending_of(process: Popen[str]) -> tuple[int, str]:
    """Exit code, and what was said."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said
