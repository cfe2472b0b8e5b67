"""A full disk gives one clear error at once and leaves gold unchanged; with free space, the next run succeeds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fault_scenario import (
    CHANGED_DAY,
    NEW_DAY,
    Scenario,
    assert_clear,
    assert_nothing_left_behind,
    database_with_version_a,
    execute,
    rows_of_day,
    run,
)
from small_disk import TABLESPACE, SmallDisk, tablespace_on_a_small_disk
from support import LONG, Bucket, Warehouse

from etl.engine.context import RunContext, StepResult
from etl.engine.run_report import Step
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings

TIMES = 150
"""Number of copies of the rows of a day in version B: more than half a megabyte in each layer."""
FEW_BYTES = 200_000
SECONDS_TO_GIVE_UP = 8


@pytest.fixture(scope="module")
def disk(scenario: Scenario, fault_server_root: Path) -> Iterator[SmallDisk]:
    del scenario  # is created before the server is restarted
    with tablespace_on_a_small_disk(fault_server_root) as disk:
        yield disk


@pytest.fixture(scope="module")
def large_b(scenario: Scenario) -> Mapping[str, str]:
    """Return the contents of the tables after a clean run of the large version B."""
    with database_with_version_a(scenario, "large_b") as settings:
        put_large_version_b(settings)
        assert run(settings).error is None
        return Warehouse(settings).contents()


@pytest.fixture
def settings_on_small_disk(settings: Settings, scenario: Scenario, disk: SmallDisk) -> Iterator[Settings]:
    """Yield version A on the small disk; the bucket contains a large version B."""
    put_large_version_b(settings)
    execute(scenario.settings, f"alter database {settings.postgres_db} set tablespace {TABLESPACE}")
    yield settings
    disk.clear()


def put_large_version_b(settings: Settings) -> None:
    for number in (CHANGED_DAY, NEW_DAY):
        Bucket(settings).put_snapshot(number, rows_of_day(number, "Reno") * TIMES)


def steps_with_full_disk(disk: SmallDisk, before: int, left: int) -> list[Step]:
    def with_disk_filled_first(step: Step) -> Step:
        def fill_and_run(context: RunContext) -> StepResult:
            disk.fill(left)
            return step.run(context)

        return replace(step, run=fill_and_run) if step.number == before else step

    return [with_disk_filled_first(step) for step in choose_steps()]


FULL_DISK_CASES = [
    (2, FEW_BYTES),
    *LONG * [(3, FEW_BYTES), (4, FEW_BYTES), (6, FEW_BYTES), (2, 0), (3, 0), (4, 0), (6, 0)],
]


@pytest.mark.parametrize(("step", "left"), FULL_DISK_CASES)
def test_full_disk_ends_the_run_at_once_and_the_next_run_succeeds(
    scenario: Scenario,
    settings_on_small_disk: Settings,
    disk: SmallDisk,
    large_b: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
    step: int,
    left: int,
) -> None:
    started_at = time.monotonic()
    report = run_steps(settings_on_small_disk, steps_with_full_disk(disk, step, left))
    assert time.monotonic() - started_at < SECONDS_TO_GIVE_UP
    assert report.exit_code == 1
    assert_clear(report.error, settings_on_small_disk.postgres_address, "No space left", "→ free disk space")
    # Step 4 attaches the tables of step 3: free space in catalog pages may suffice for it.
    assert re.match(f"step [{step}-6], ", str(report.error))
    assert str(report.error).count("\n") == 1, "one error with one next action"
    assert "failed, retrying in" not in caplog.text, "a full disk is not retried"
    warehouse = Warehouse(settings_on_small_disk)
    assert warehouse.gold() == scenario.gold_of_a

    disk.clear()
    again = run(settings_on_small_disk)
    assert again.error is None, again.error
    assert warehouse.contents() == large_b
    assert_nothing_left_behind(settings_on_small_disk)
    ends = warehouse.rows("select status, exit_code from meta.pipeline_runs order by started_at")
    assert ends == [("complete", 0), ("failed", 1), ("complete", 0)]
