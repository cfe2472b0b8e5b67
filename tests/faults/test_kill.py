"""A run that is killed at any moment leaves gold complete, and the next run without options completes the load."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_scenario import (
    Scenario,
    assert_gold_is_complete,
    assert_rerun_repairs_everything,
    database_with_version_a,
    main_process,
    run,
    seeded_rng,
    wait_until_running,
)
from support import LONG, Warehouse, times

from etl.utils.utils_connection import Settings
from etl.warehouse import transactions

MOMENTS = times(1, 50)
SECONDS_OF_A_RUN = 0.6
"""Minimum duration of a run after its entry in meta.pipeline_runs, on an idle machine."""
PUBLICATION = "publish_gold"
"""The function whose commit publishes gold."""


@pytest.fixture(scope="module")
def commits(scenario: Scenario) -> int:
    """Return the number of transactions that a run from A to B commits."""
    count, commit = itertools.count(1), transactions._commit
    numbers = []

    def counting_commit(*arguments: Any) -> None:
        numbers.append(next(count))
        commit(*arguments)

    with pytest.MonkeyPatch.context() as patch, database_with_version_a(scenario, "counted") as settings:
        patch.setattr(transactions, "_commit", counting_commit)
        assert run(settings).error is None
    assert len(numbers) > 20, "a run has a transaction for each day and step"
    return len(numbers)


@pytest.mark.parametrize("when", ["before", "after"])
def test_run_killed_next_to_any_commit_is_completed_by_the_next(
    scenario: Scenario, commits: int, tmp_path: Path, when: str, record_property: Callable[[str, object], None]
) -> None:
    numbers = boundaries(when, commits)
    record_property("times", len(numbers))
    for number in numbers:
        with database_with_version_a(scenario, f"killed_{when}_{number}") as settings:
            output = kill_beside_commit(tmp_path, settings, when, number)
            gold = scenario.gold_of_b if PUBLICATION in output else scenario.gold_of_a
            assert Warehouse(settings).gold() == gold, f"commit {number}:\n{output}"
            assert_rerun_repairs_everything(scenario, settings)


def boundaries(when: str, commits: int) -> list[int | str]:
    """Return all commits; in the short suite, the publication of gold and two random commits."""
    others = range(1, commits + 1)
    return [PUBLICATION, *(others if LONG else seeded_rng(f"kill {when}").sample(others, 2))]


def kill_beside_commit(folder: Path, settings: Settings, when: str, number: int | str) -> str:
    """Run main.py until it is killed. Returns its output."""
    program = Path(__file__).with_name("kill_at.py")
    with main_process(folder, settings, when, str(number), program=program) as process:
        committed, output = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, output
    return f"{committed}{output}"


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_run_killed_at_a_random_moment_is_completed_by_the_next(
    scenario: Scenario, settings: Settings, tmp_path: Path, moment: int
) -> None:
    with main_process(tmp_path, settings) as process:
        wait_until_running(process, settings)
        time.sleep(seeded_rng(f"kill {moment}").uniform(0, SECONDS_OF_A_RUN))
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)
