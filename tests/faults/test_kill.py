"""A run that is killed at any moment: gold is the old state or the new one, and the next plain run mends everything."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scenario import (
    LONG,
    Story,
    assert_gold_is_complete,
    assert_one_rerun_mends_everything,
    database_with_version_a,
    dice,
    run,
    started,
    times,
    wait_until_running,
)
from support import Warehouse

from etl.utils.utils_connection import Settings
from etl.warehouse import transactions

MOMENTS = times(1, 50)
SECONDS_OF_A_RUN = 0.6
"""What it takes at least from its entry in the books, on a machine that has nothing else to do."""
AFTER_GOLD = 3
"""Transactions that follow the publication of gold: what stands there now, the checks, the end of the run."""


@pytest.fixture(scope="module")
def commits(story: Story) -> int:
    """How many transactions a run from A to B commits."""
    count, commit = itertools.count(1), transactions._commit
    numbers = []

    def counting_commit(*arguments: Any) -> None:
        numbers.append(next(count))
        commit(*arguments)

    with pytest.MonkeyPatch.context() as patch, database_with_version_a(story, "counted") as settings:
        patch.setattr(transactions, "_commit", counting_commit)
        assert run(settings).error is None
    assert len(numbers) > 20, "a run has a transaction for each day and step"
    return len(numbers)


@pytest.mark.parametrize("when", ["before", "after"])
def test_run_killed_next_to_any_commit_is_completed_by_the_next(
    story: Story, commits: int, tmp_path: Path, when: str, record_property: Callable[[str, object], None]
) -> None:
    numbers = boundaries(when, commits)
    record_property("times", len(numbers))
    for number in numbers:
        with database_with_version_a(story, f"killed_{when}_{number}") as settings:
            kill_beside_commit(tmp_path, settings, when, number)
            is_published = number > commits - AFTER_GOLD or (number == commits - AFTER_GOLD and when == "after")
            assert Warehouse(settings).gold() == (story.gold_of_b if is_published else story.gold_of_a)
            assert_one_rerun_mends_everything(story, settings)


def boundaries(when: str, commits: int) -> list[int]:
    """All; or the publication of gold, and some that are drawn."""
    publication = commits - AFTER_GOLD
    others = [number for number in range(1, commits + 1) if number != publication]
    return sorted([publication, *(others if LONG else dice(f"kill {when}").sample(others, 2))])


def kill_beside_commit(folder: Path, settings: Settings, when: str, number: int) -> None:
    program = Path(__file__).with_name("kill_at.py")
    with started(folder, settings, when, str(number), program=program) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_run_killed_at_a_random_moment_is_completed_by_the_next(
    story: Story, settings: Settings, tmp_path: Path, moment: int
) -> None:
    with started(tmp_path, settings) as process:
        wait_until_running(process, settings)
        time.sleep(dice(f"kill {moment}").uniform(0, SECONDS_OF_A_RUN))
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it came to its end before it was killed"
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)
