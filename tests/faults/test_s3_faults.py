"""S3 is overloaded, cuts bodies short, says no: what passes is tried again, what does not names its key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from s3_stub import Stub, spoiling
from scenario import (
    CHANGED_DAY,
    LONG,
    Story,
    assert_as_after_a_clean_run,
    assert_clear,
    assert_one_rerun_mends_everything,
    put_version_b,
    rows_of_day,
    run,
)
from support import Bucket, Warehouse

from etl.engine.report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

CSV = f"SFTP/data_{CHANGED_DAY}.csv"
LEADS = "parquet/leads.parquet"
FOR_EVER = 1_000_000
TRIES = 6
"""One, and five more: see `s3_client`."""
SECONDS_TO_GIVE_UP = 120
"""A minute of patience, and what botocore has of its own before and after."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's pauses between its tries, but a twentieth of them: the long suite waits them out."""
    if not LONG:
        quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 20)})
        monkeypatch.setattr("botocore.endpoint.time", quick)


@contextmanager
def behind(settings: Settings, stub: Stub) -> Iterator[Settings]:
    with spoiling(stub) as endpoint:
        spoilt = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
        try:
            yield spoilt
        finally:
            close_connections(spoilt)


def run_behind(settings: Settings, stub: Stub) -> RunReport:
    with behind(settings, stub) as spoilt:
        report = run(spoilt)
    assert stub.spoilt, "the fault did happen"
    return report


def stub_for(settings: Settings, fault: object, method: str, key: str, times: int = FOR_EVER) -> Stub:
    assert settings.aws_endpoint_url_s3
    return Stub(settings.aws_endpoint_url_s3, fault, method, key, times)


# --- what passes ------------------------------------------------------------------------------------------------------

PASSING = [
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


@pytest.mark.parametrize(("fault", "method", "key", "times"), PASSING)
def test_transient_s3_faults_are_retried(
    story: Story, settings: Settings, fault: str, method: str, key: str, times: int
) -> None:
    stub = stub_for(settings, fault, method, key, times)
    report = run_behind(settings, stub)
    assert report.error is None, report.error
    assert stub.spoilt == times
    assert_as_after_a_clean_run(story, settings)


# --- what does not ----------------------------------------------------------------------------------------------------

LASTING = [
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


@pytest.mark.parametrize(("fault", "method", "key", "code"), LASTING)
def test_permanent_s3_faults_end_the_run_and_name_the_key(
    story: Story, settings: Settings, fault: str, method: str, key: str, code: str
) -> None:
    began = time.monotonic()
    stub = stub_for(settings, fault, method, key)
    report = run_behind(settings, stub)
    assert time.monotonic() - began < SECONDS_TO_GIVE_UP
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", key.strip("/"), code)
    assert stub.spoilt == 1 if fault == "403" else stub.spoilt >= TRIES, "who has no rights need not ask twice"
    assert Warehouse(settings).gold() == story.gold_of_a
    assert_days_are_whole(story, settings)
    assert_one_rerun_mends_everything(story, settings)


def test_missing_bucket_is_reported(story: Story, settings: Settings) -> None:
    missing = settings.model_copy(update={"s3_bucket_name": "no-such-bucket"})
    report = run(missing)
    close_connections(missing)
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", "no-such-bucket", "S3_BUCKET_NAME")
    assert Warehouse(settings).contents() == story.a


@pytest.mark.parametrize("key", [CSV, *LONG * [LEADS]])
def test_object_changed_between_list_and_get_is_reported(story: Story, settings: Settings, key: str) -> None:
    bucket = Bucket(settings)

    def change() -> None:
        if key == CSV:
            bucket.put_snapshot(CHANGED_DAY, rows_of_day(CHANGED_DAY, "Elko"))
        else:
            bucket.put_leads([("another lead", "p1", "e1")])

    report = run_behind(settings, stub_for(settings, change, "GET", key, times=1))
    assert report.exit_code == 1
    assert_clear(report.error, "step 2", key, "rerun")
    assert Warehouse(settings).gold() == story.gold_of_a
    assert_days_are_whole(story, settings)
    put_version_b(bucket)
    assert_one_rerun_mends_everything(story, settings)


def assert_days_are_whole(story: Story, settings: Settings) -> None:
    """Bronze is that of A or, where the leads alone failed, the CSV days of B: no day is in between."""
    assert Warehouse(settings).fingerprint("bronze.csv_snapshots") in (
        story.a["bronze.csv_snapshots"],
        story.b["bronze.csv_snapshots"],
    )
