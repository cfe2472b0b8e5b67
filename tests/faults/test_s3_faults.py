"""S3 is overloaded, truncates bodies or denies access: transient faults are retried, permanent ones name the key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from fault_scenario import (
    CHANGED_DAY,
    Scenario,
    assert_clear,
    assert_equals_clean_run,
    assert_rerun_repairs_everything,
    put_version_b,
    rows_of_day,
    run,
)
from s3_stub import Stub, faulty_s3
from support import LONG, Bucket, Warehouse

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

CSV = f"SFTP/data_{CHANGED_DAY}.csv"
LEADS = "parquet/leads.parquet"
UNLIMITED = 1_000_000
TRIES = 6
"""One attempt and five retries: see `s3_client`."""
SECONDS_TO_GIVE_UP = 120
"""One minute of retries, plus those of botocore."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of botocore between retries to a twentieth, except in the long suite."""
    if not LONG:
        quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 20)})
        monkeypatch.setattr("botocore.endpoint.time", quick)


@contextmanager
def settings_with_faults(settings: Settings, stub: Stub) -> Iterator[Settings]:
    with faulty_s3(stub) as endpoint:
        faulty_settings = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
        try:
            yield faulty_settings
        finally:
            close_connections()


def run_with_faults(settings: Settings, stub: Stub) -> RunReport:
    with settings_with_faults(settings, stub) as faulty_settings:
        report = run(faulty_settings)
    assert stub.injected, "the fault was injected"
    return report


def stub_for(settings: Settings, fault: object, method: str, key: str, times: int = UNLIMITED) -> Stub:
    assert settings.aws_endpoint_url_s3
    return Stub(settings.aws_endpoint_url_s3, fault, method, key, times)


# --- Transient faults -------------------------------------------------------------------------------------------------

TRANSIENT = [
    ("503", "GET", CSV, 4),
    ("reset", "GET", CSV, 1),
    ("short", "GET", LEADS, 1),
    *LONG
    * [
        *(("503", "GET", CSV, times) for times in (1, 2, 3)),
        ("503", "GET", "/faults", 2),
        ("503", "HEAD", LEADS, 2),
        ("reset", "GET", LEADS, 1),
        ("reset", "GET", CSV, 3),
        ("short", "GET", CSV, 1),
    ],
]


@pytest.mark.parametrize(("fault", "method", "key", "times"), TRANSIENT)
def test_transient_s3_faults_are_retried(
    scenario: Scenario, settings: Settings, fault: str, method: str, key: str, times: int
) -> None:
    stub = stub_for(settings, fault, method, key, times)
    report = run_with_faults(settings, stub)
    assert report.error is None, report.error
    assert stub.injected == times
    assert_equals_clean_run(scenario, settings)


# --- Permanent faults -------------------------------------------------------------------------------------------------

PERMANENT = [
    ("403", "GET", LEADS, "AccessDenied"),
    *LONG
    * [
        ("503", "GET", CSV, "SlowDown"),
        ("503", "GET", LEADS, "SlowDown"),
        ("503", "GET", "/faults", "SlowDown"),
        ("403", "GET", CSV, "AccessDenied"),
        ("403", "HEAD", LEADS, "403"),
        ("403", "GET", "/faults", "AccessDenied"),
    ],
]


@pytest.mark.parametrize(("fault", "method", "key", "code"), PERMANENT)
def test_permanent_s3_faults_end_the_run_and_name_the_key(
    scenario: Scenario, settings: Settings, fault: str, method: str, key: str, code: str
) -> None:
    started_at = time.monotonic()
    stub = stub_for(settings, fault, method, key)
    report = run_with_faults(settings, stub)
    assert time.monotonic() - started_at < SECONDS_TO_GIVE_UP
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", key.strip("/"), code)
    assert stub.injected == 1 if fault == "403" else stub.injected >= TRIES, "denied access is not retried"
    assert Warehouse(settings).gold() == scenario.gold_of_a
    assert_days_are_whole(scenario, settings)
    assert_rerun_repairs_everything(scenario, settings)


def test_missing_bucket_is_reported(scenario: Scenario, settings: Settings) -> None:
    missing = settings.model_copy(update={"s3_bucket_name": "no-such-bucket"})
    report = run(missing)
    close_connections()
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", "no-such-bucket", "S3_BUCKET_NAME")
    assert Warehouse(settings).contents() == scenario.a


@pytest.mark.parametrize("key", [CSV, *LONG * [LEADS]])
def test_object_changed_between_list_and_get_is_reported(scenario: Scenario, settings: Settings, key: str) -> None:
    bucket = Bucket(settings)

    def change() -> None:
        if key == CSV:
            bucket.put_snapshot(CHANGED_DAY, rows_of_day(CHANGED_DAY, "Elko"))
        else:
            bucket.put_leads([("another lead", "p1", "e1")])

    report = run_with_faults(settings, stub_for(settings, change, "GET", key, times=1))
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", key, "rerun")
    assert Warehouse(settings).gold() == scenario.gold_of_a
    assert_days_are_whole(scenario, settings)
    put_version_b(bucket)
    assert_rerun_repairs_everything(scenario, settings)


def assert_days_are_whole(scenario: Scenario, settings: Settings) -> None:
    """Assert that bronze is that of A or, if only the leads failed, of B: no day is partially loaded."""
    assert Warehouse(settings).fingerprint("bronze.csv_snapshots") in (
        scenario.a["bronze.csv_snapshots"],
        scenario.b["bronze.csv_snapshots"],
    )
