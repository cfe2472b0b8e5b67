"""Checks at the end of a run: a failed check ends the run with 1, a warning is logged and recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from support import Bucket, Warehouse

from etl.engine.run_report import RunReport

Run = Callable[..., RunReport]
LEADS = [("a", "p1", "e1"), ("b", "p2", "e2")]


@pytest.fixture(autouse=True)
def _loaded(bucket: Bucket, run_pipeline: Run) -> None:
    for number in (1, 2):
        rows = [{"LEADNUMBER": str(row), "email_hash": f"e{row}", "ZIP": f"0000{number}"} for row in range(1, 4)]
        bucket.put_snapshot(number, [*rows, {"LEADNUMBER": "no number"}, {"CITY": "-----"}])
    bucket.put_leads(LEADS)
    report = run_pipeline()
    assert (report.error, report.warnings) == (None, [])


VIOLATIONS = {
    "bronze and rejected lines are not all of a file's records": (
        "file",
        "update meta.ingested_files set record_count = 9 where file_number = 2",
        (
            "SFTP/data_2.csv: 9 records, 5 rows, 0 rejected",
            "every record of a file must be in bronze or in silver.rejected_rows",
        ),
    ),
    "silver, rejected rows and separators are not all of bronze": (
        "table",
        "update meta.table_loads set separator_count = 0 where table_name = 'silver.stg_csv_data_01'",
        (
            "partitions.csv_snapshots_01 was loaded with 5 rows: 3 clean, 1 rejected, 0 separators",
            "rows of bronze must equal rows of silver + rejected rows + dropped rows",
        ),
    ),
    "leads are lost": (
        "table",
        "update meta.table_loads set row_count = 1 where table_name = 'silver.stg_leads_parquet'",
        (
            "bronze.leads_parquet was loaded with 2 rows: 1 clean",
            "rows of bronze must equal rows of silver + rejected rows + dropped rows",
        ),
    ),
    "gold lacks rows": (
        "table",
        "update meta.table_loads set row_count = 2 where table_name = 'partitions.lead_quality_matching_02'",
        (
            "partitions.lead_quality_matching_02 has 2 rows, silver.stg_csv_data_02 has 3",
            "every row of silver must be in gold.lead_quality_matching",
        ),
    ),
    "gold has leads that the backend has not": (
        "table",
        "update meta.table_loads set row_count = 3 where table_name = 'gold.leads'",
        (
            "gold.leads has 3 rows, silver.stg_leads_parquet has 2",
            "gold must contain each backend lead at most once, and no other leads",
        ),
    ),
    "more leads are seen than there are": (
        "table",
        "update meta.table_loads set row_count = 4 where table_name = 'gold.lead_quality_current'",
        (
            "gold.lead_quality_current has 4 rows, gold.leads has 2",
            "gold must contain each backend lead at most once, and no other leads",
        ),
    ),
}


@pytest.mark.parametrize(("thing", "statement", "expected"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_failed_check_fails_every_run(
    run_pipeline: Run, warehouse: Warehouse, thing: str, statement: str, expected: tuple[str, ...]
) -> None:
    warehouse.rows(statement)
    for _ in range(2):
        report = run_pipeline()
        assert report.exit_code == 1
        message = str(report.error)
        for part in ("checks at the end: ", f"check failed for 1 {thing}: ", "\n  → ", *expected):
            assert part in message, message
    last = "select status, exit_code from meta.pipeline_runs order by started_at desc limit 1"
    assert warehouse.rows(last) == [("failed", 1)]
    assert run_pipeline(full_refresh=True).error is None


def test_failed_check_is_the_error_of_a_run_that_also_refused_a_file(
    run_pipeline: Run, warehouse: Warehouse, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("SFTP/data_2.csv", b"no header\n1\n")
    warehouse.rows("update meta.table_loads set separator_count = 0 where table_name = 'silver.stg_csv_data_01'")
    report = run_pipeline(allow_partial=True)
    assert report.exit_code == 1
    assert "rows of bronze must equal rows of silver" in str(report.error)
    assert "refused: " in caplog.text
    assert "SFTP/data_2.csv: its first line is not a header" in caplog.text


def test_deleted_rejected_rows_fail_the_check_or_are_loaded_again(run_pipeline: Run, warehouse: Warehouse) -> None:
    warehouse.rows("delete from silver.rejected_rows where _partition_date = '2024-10-01'")
    report = run_pipeline(only_step=5)
    assert report.exit_code == 1
    assert "silver.stg_csv_data_01: 1 rejected, 0 kept" in str(report.error)
    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from silver.rejected_rows") == 2


def test_days_missing_from_gold_are_a_warning(run_pipeline: Run, warehouse: Warehouse, bucket: Bucket) -> None:
    bucket.put_snapshot(3, [{}, {}, {}])
    report = run_pipeline(only_step=2)
    assert report.error is None
    (failure,) = report.warnings
    assert failure.startswith("check failed for 1 table: ")
    assert ". 2024-10-03 → " in failure
    last = "select checks from meta.pipeline_runs order by started_at desc limit 1"
    assert warehouse.value(last) == [failure]
    assert run_pipeline().warnings == []
    assert warehouse.value(last) == []


def test_days_that_match_few_leads_are_a_warning(run_pipeline: Run, bucket: Bucket) -> None:
    bucket.put_snapshot(2, [{"email_hash": f"salted e{row}", "phone_hash": ""} for row in range(4)])
    report = run_pipeline()
    assert report.error is None
    (failure,) = report.warnings
    assert failure.startswith("check failed for 1 day: ")
    assert ". 2024-10-02: 4 of 4 rows match no lead → " in failure


def test_plain_addresses_instead_of_hashes_are_a_warning(run_pipeline: Run, bucket: Bucket) -> None:
    rows = [{"LEADNUMBER": "1", "email_hash": "ann@example.com", "phone_hash": "p1"}, {"LEADNUMBER": "2"}]
    bucket.put_snapshot(2, rows)
    report = run_pipeline()
    assert report.error is None
    (failure,) = report.warnings
    assert failure.startswith("check failed for 1 day: hashes should not be plain e-mail addresses. 2024-10-02: 1 of 2")


def test_shared_ids_of_leads_are_reported_with_samples(
    run_pipeline: Run, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    shared = [("a", "p1", "e1"), ("b", "P1", " E1"), ("b", "p3", "e3"), ("c", "p4", "e4"), ("c", "p4", "e4")]
    bucket.put_leads([*shared, ("d", None, "e5"), ("e", "p6", "ann@example.com")])
    with caplog.at_level(logging.WARNING):
        assert run_pipeline().error is None
    messages = [record.getMessage() for record in caplog.records]
    for expected in (
        "leads: 1 dropped because an id is missing, 1 as duplicates",
        "check failed for 1 lead: hashes should not be plain e-mail addresses. e →",
        "every lead_uuid should belong to one backend lead. b: 2 leads",
        "every email_hash should belong to one backend lead. e1: 2 leads",
        "every phone_hash should belong to one backend lead. p1: 2 leads",
        "check failed for 1 value: every pair email_hash, phone_hash should belong to one backend lead. e1 p1: 2 leads",
    ):
        assert any(expected in line for line in messages), (expected, messages)
