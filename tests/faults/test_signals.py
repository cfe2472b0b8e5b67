"""A run that is asked to end: in order, on the books, with one clear error."""

from __future__ import annotations

import re
import signal
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from scenario import (
    Story,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_one_rerun_mends_everything,
    dice,
    started,
    times,
    wait_until_running,
)
from support import Warehouse, connection_arguments

from etl.utils.utils_connection import Settings


@pytest.mark.parametrize("number", range(times(1, 10)))
@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_run_ends_with_one_error(
    story: Story, settings: Settings, tmp_path: Path, asked: signal.Signals, number: int
) -> None:
    warehouse = Warehouse(settings)
    with started(tmp_path, settings) as process:
        wait_until_running(process, settings)
        time.sleep(dice(f"{asked.name} {number}").uniform(0, 0.25))
        process.send_signal(asked)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1, said
    assert_one_clear_error(said, asked.name, "rerun")
    assert re.search(r"error: step \d, ", said), said
    assert warehouse.value("select status from meta.pipeline_runs order by started_at desc limit 1") == "aborted"
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)


def test_run_that_waits_for_a_reader_can_be_cancelled(story: Story, settings: Settings, tmp_path: Path) -> None:
    with closing(psycopg2.connect(**connection_arguments(settings))) as reader, reader.cursor() as db:
        db.execute("select count(*) from gold.lead_quality_matching")  # and the transaction stays open
        with started(tmp_path, settings) as process:
            wait_until_running(process, settings)
            staged = "select count(*) from pg_tables where schemaname = 'staging' and tablename = 'lead_status_history'"
            while process.poll() is None and not Warehouse(settings).value(staged):
                time.sleep(0.05)
            time.sleep(1.5)  # until nothing is left to do but to wait for the reader
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=10)
        assert process.returncode == 1, said
        assert_one_clear_error(said, "SIGTERM", "step 6", "rerun")
    assert_gold_is_complete(story, settings)
    assert_one_rerun_mends_everything(story, settings)
