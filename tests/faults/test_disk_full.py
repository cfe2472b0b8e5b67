"""The disk of the database is full: one clear error at once, gold as it was; with room again, one run does the rest."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from scenario import (
    CHANGED_DAY,
    LONG,
    NEW_DAY,
    Story,
    assert_clear,
    assert_nothing_left_behind,
    database_with_version_a,
    execute,
    rows_of_day,
    run,
)
from small_disk import TABLESPACE, SmallDisk, tablespace_on_a_small_disk
from support import Bucket, Warehouse

from etl.engine.context import RunContext, StepResult
from etl.engine.report import Step
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings

TIMES = 150
"""Rows of a day of version B become this many: more than half a megabyte in each layer."""
LITTLE = 200_000
SECONDS_TO_GIVE_UP = 8


@pytest.fixture(scope="module")
def disk(story: Story, fault_server_root: Path) -> Iterator[SmallDisk]:
    del story  # is told before the server is restarted
    with tablespace_on_a_small_disk(fault_server_root) as disk:
        yield disk


@pytest.fixture(scope="module")
def large_b(story: Story) -> Mapping[str, str]:
    """What the tables hold after a clean run of the large version B, where there is room."""
    with database_with_version_a(story, "large_b") as settings:
        put_large_version_b(settings)
        assert run(settings).error is None
        return Warehouse(settings).contents()


@pytest.fixture
def cramped(settings: Settings, story: Story, disk: SmallDisk) -> Iterator[Settings]:
    """Version A on the small disk, in front of a large version B."""
    put_large_version_b(settings)
    execute(story.settings, f"alter database {settings.postgres_db} set tablespace {TABLESPACE}")
    yield settings
    disk.clear()


def put_large_version_b(settings: Settings) -> None:
    for number in (CHANGED_DAY, NEW_DAY):
        Bucket(settings).put_snapshot(number, rows_of_day(number, "Reno") * TIMES)


def steps_with_the_disk_filled(disk: SmallDisk, before: int, left: int) -> list[Step]:
    def filling(step: Step) -> Step:
        def fill_and_run(context: RunContext) -> StepResult:
            disk.fill(left)
            return step.run(context)

        return replace(step, run=fill_and_run) if step.number == before else step

    return [filling(step) for step in choose_steps()]


FULL_BEFORE = [(2, LITTLE), *LONG * [(3, LITTLE), (4, LITTLE), (6, LITTLE), (2, 0), (3, 0), (4, 0), (6, 0)]]


@pytest.mark.parametrize(("step", "left"), FULL_BEFORE)
def test_full_disk_ends_the_run_at_once_and_the_next_run_succeeds(
    story: Story,
    cramped: Settings,
    disk: SmallDisk,
    large_b: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
    step: int,
    left: int,
) -> None:
    began = time.monotonic()
    report = run_steps(cramped, steps_with_the_disk_filled(disk, step, left))
    assert time.monotonic() - began < SECONDS_TO_GIVE_UP
    assert report.exit_code == 1
    assert_clear(report.error, cramped.postgres_address, "No space left", "→ free disk space")
    # Step 4 attaches what step 3 has written: it may need no more than the catalogue's pages have left.
    assert re.match(f"step [{step}-6], ", str(report.error))
    assert str(report.error).count("\n") == 1, "one fault, one next action"
    assert "failed, retrying in" not in caplog.text, "what does not pass is not tried again"
    warehouse = Warehouse(cramped)
    assert warehouse.gold() == story.gold_of_a

    disk.clear()
    again = run(cramped)
    assert again.error is None, again.error
    assert warehouse.contents() == large_b
    assert_nothing_left_behind(cramped)
    ends = warehouse.rows("select status, exit_code from meta.pipeline_runs order by started_at")
    assert ends == [("complete", 0), ("failed", 1), ("complete", 0)]
