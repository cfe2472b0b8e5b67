"""A run that is cancelled ends with one clear error and is recorded as aborted."""

from __future__ import annotations

import re
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from fault_scenario import (
    CHANGED_DAY,
    Scenario,
    assert_gold_is_complete,
    assert_one_clear_error,
    assert_rerun_repairs_everything,
    main_process,
    seeded_rng,
    wait_until_running,
)
from s3_stub import Stub, faulty_s3
from support import Warehouse, connection_arguments, times

from etl.utils.utils_connection import Settings

CSV = f"SFTP/data_{CHANGED_DAY}.csv"


@pytest.mark.parametrize("number", range(times(1, 10)))
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_run_ends_with_one_error(
    scenario: Scenario, settings: Settings, tmp_path: Path, signal_number: signal.Signals, number: int
) -> None:
    warehouse = Warehouse(settings)
    with main_process(tmp_path, settings) as process:
        wait_until_running(process, settings)
        time.sleep(seeded_rng(f"{signal_number.name} {number}").uniform(0, 0.25))
        process.send_signal(signal_number)
        _, output = process.communicate(timeout=30)
    assert process.returncode == 1, output
    assert_one_clear_error(output, signal_number.name, "rerun")
    assert re.search(r"error: step \d, ", output), output
    assert warehouse.value("select status from meta.pipeline_runs order by started_at desc limit 1") == "aborted"
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


@pytest.mark.parametrize("key", ["", CSV], ids=["listing", "download"])
def test_run_that_hangs_in_s3_can_be_cancelled(
    scenario: Scenario, settings: Settings, tmp_path: Path, key: str
) -> None:
    released = threading.Event()
    stub = Stub(str(settings.aws_endpoint_url_s3), released.wait, "GET", key or settings.s3_bucket_name, 1)
    with faulty_s3(stub) as endpoint:
        faulty_settings = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
        with main_process(tmp_path, faulty_settings) as process:
            while process.poll() is None and not stub.injected:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, output = process.communicate(timeout=20)
        released.set()
    assert process.returncode == 1, output
    assert_one_clear_error(output, "SIGTERM", "step 2", "rerun")
    status = "select status from meta.pipeline_runs order by started_at desc limit 1"
    assert Warehouse(settings).value(status) == "aborted"
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


def test_run_that_waits_for_a_reader_can_be_cancelled(scenario: Scenario, settings: Settings, tmp_path: Path) -> None:
    with closing(psycopg2.connect(**connection_arguments(settings))) as reader, reader.cursor() as db:
        db.execute("select count(*) from gold.lead_quality_matching")  # the transaction stays open
        with main_process(tmp_path, settings) as process:
            wait_until_running(process, settings)
            staged = "select count(*) from pg_tables where schemaname = 'staging' and tablename = 'lead_status_history'"
            while process.poll() is None and not Warehouse(settings).value(staged):
                time.sleep(0.05)
            time.sleep(1.5)  # until the run only waits for the reader
            process.send_signal(signal.SIGTERM)
            _, output = process.communicate(timeout=10)
        assert process.returncode == 1, output
        assert_one_clear_error(output, "SIGTERM", "step 6", "rerun")
    assert_gold_is_complete(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)
