"""Of runs that start at the same time one works; all other runs exit with 3."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest
from fault_scenario import Scenario, advisory_locks, assert_equals_clean_run, assert_one_clear_error, main_process
from support import LONG, Warehouse

from etl.utils.utils_connection import Settings

RUN_COUNTS = [2, 8] * 10 if LONG else [3]
SLOW_RUN = Path(__file__).with_name("slow_run.py")
SECONDS_TO_LEAVE = 2.0


@pytest.mark.parametrize("run_count", RUN_COUNTS)
def test_only_one_of_concurrent_runs_works(
    scenario: Scenario, settings: Settings, tmp_path: Path, run_count: int
) -> None:
    """All runs start before the first one ends: the run takes longer than the start."""
    with ExitStack() as stack, ThreadPoolExecutor(run_count) as watchers:
        processes = [stack.enter_context(main_process(tmp_path, settings, program=SLOW_RUN)) for _ in range(run_count)]
        results = list(watchers.map(wait_for_exit, processes))
    assert sorted(code for code, _ in results) == [0] + [3] * (run_count - 1), results
    for code, output in results:
        if code == 3:
            assert_one_clear_error(output, settings.postgres_db, "another run", "meta.pipeline_runs")
    assert_equals_clean_run(scenario, settings)
    assert Warehouse(settings).value("select count(*) from meta.pipeline_runs") == 2, "refused runs write nothing"


def test_second_run_exits_within_two_seconds(settings: Settings, tmp_path: Path) -> None:
    """The short suite does not check the time: the machine may be busy."""
    with main_process(tmp_path, settings, program=SLOW_RUN) as first:
        deadline = time.monotonic() + 30
        while advisory_locks(settings) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        started_at = time.monotonic()
        with main_process(tmp_path, settings) as second:
            code, output = wait_for_exit(second)
        seconds = time.monotonic() - started_at
        assert code == 3, output
        assert wait_for_exit(first)[0] == 0
    if LONG:
        assert seconds < SECONDS_TO_LEAVE


def wait_for_exit(process: Popen[str]) -> tuple[int, str]:
    """Wait for the process; return its exit code and its error output."""
    _, output = process.communicate(timeout=60)
    return process.returncode, output
