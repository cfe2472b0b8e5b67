"""Leads files that mislead: reported, or refused."""

from __future__ import annotations

import gzip

import pytest
from file_runs import assert_refused, leads, put_leads, run
from support import Bucket, Warehouse

from etl.console.summary import metrics_by_subject
from etl.engine.dry_run import plan_run
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings


def test_leads_file_with_other_hashes_is_reported_until_it_is_repaired(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    for number in (1, 2):
        bucket.put_snapshot(number, leads(50, ZIP=f"0000{number}"))
    put_leads(bucket, 50)
    assert run(settings).warnings == []
    bucket.put_leads([(f"lead {n}", f"p{n}", f"salted e{n}") for n in range(1, 51)])
    lost = "match_both_share is 0.0 %, expected 100.0 %: 2024-10-01 to 2024-10-02"
    assert lost in "".join(run(settings).warnings)
    assert warehouse.value("select row_count from gold.match_scenarios where scenario = 'phone_only'") == 100
    warehouse.rows("delete from gold.lead_quality_matching where _partition_date = '2024-10-02'")
    for report in (run(settings), run(settings, full_refresh=True)):
        assert lost in "".join(report.warnings), "a later build does not become the standard"
    put_leads(bucket, 50)
    assert run(settings).warnings == [], "matches that are found again are no anomaly"
    twins = [(f"twin {n}", f"p{n}", f"twin's e{n}") for n in range(1, 6)]
    bucket.put_leads([*((f"lead {n}", f"p{n}", f"e{n}") for n in range(1, 51)), *twins])
    assert "match_" not in "".join(run(settings).warnings), "no row has lost a match"
    put_leads(bucket, 46)
    assert "match_none_share is 8.0 %, expected 0.0 %: 2024-10-01" in "".join(run(settings).warnings)
    warehouse.rows("insert into meta.accepted_changes (metric, since) values ('match_none_share', '2024-10-01')")
    assert "match_none_share" not in "".join(run(settings).warnings)
    put_leads(bucket, 42)
    assert "match_none_share is 16.0 %, expected 8.0 %: 2024-10-01" in "".join(run(settings).warnings)


def test_leads_file_with_many_rejected_rows_is_refused(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    bucket.put_snapshot(1, leads(20))
    put_leads(bucket, 20)
    assert run(settings).error is None
    invalid = [("long", "p" * 256, "e21"), ("NUL", "p\0", "e22")]
    bucket.put_leads([*[(f"lead {n}", f"p{n}", f"e{n}") for n in range(1, 21)], *invalid])
    reasons = "NUL byte (1), an id is longer than 255 characters (1)"
    refusal = "leads.parquet: 2 of its 22 rows (9.09%) cannot be loaded, more than MAX_REJECT_RATIO=0.05: "
    assert_refused(run(settings), "step 3", refusal + reasons, "raise MAX_REJECT_RATIO")
    assert warehouse.value("select count(*) from silver.stg_leads_parquet") == 20
    assert run(settings.model_copy(update={"max_reject_ratio": 0.1})).error is None
    assert warehouse.value("select count(*) from silver.rejected_rows") == 2


def test_leads_file_under_a_new_key_is_not_reported_as_missing(
    settings: Settings, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put_snapshot(1, leads(20))
    put_leads(bucket, 100)
    assert run(settings).error is None
    content = bucket.get(settings.s3_parquet_file)
    bucket.client.delete_object(Bucket=bucket.name, Key=settings.s3_parquet_file)
    moved = settings.model_copy(update={"s3_parquet_file": "parquet/moved.parquet"})
    bucket.put(moved.s3_parquet_file, content)
    assert plan_run(moved, choose_steps()).notes == []
    assert run(moved).error is None
    assert "no longer listed" not in caplog.text


def test_leads_file_may_be_compressed_with_gzip(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, leads(5))
    put_leads(bucket)
    compressed = gzip.compress(bucket.get(settings.s3_parquet_file))
    bucket.put(settings.s3_parquet_file, compressed)
    assert run(settings).error is None
    assert warehouse.value("select count(*) from gold.leads") == 5
    bucket.put(settings.s3_parquet_file, compressed[:-9])
    assert_refused(run(settings), "parquet/leads.parquet cannot be read as parquet")


def test_shrunken_leads_file_is_reported_or_refused(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, leads(20))
    put_leads(bucket, 100)
    assert run(settings).error is None
    put_leads(bucket, 96)
    assert_refused(
        run(settings.model_copy(update={"max_row_drop": 0.02})), "96 leads after cleaning", "MAX_ROW_DROP=0.02"
    )
    assert "after cleaning" not in "".join(map(str, run(settings).warnings))
    put_leads(bucket, 90)
    assert "90 leads after cleaning, down from 96: a decrease of 6.25%" in "".join(map(str, run(settings).warnings))
    put_leads(bucket, 96)
    assert "after cleaning" not in "".join(map(str, run(settings).warnings))
    put_leads(bucket, 60)
    for report in (run(settings), run(settings), run(settings, full_refresh=True)):
        assert report.error is None
        assert any("60 leads after cleaning, down from 96: a decrease of 37.50%" in text for text in report.warnings)
    bucket.put_leads([(f"lead {n}", f"p{n}", f"e{n}" if n <= 20 else None) for n in range(1, 61)])
    assert_refused(run(settings), "parquet", "20 leads after cleaning, down from 60", "MAX_ROW_DROP=0.5")
    warehouse.rows("drop table silver.stg_leads_parquet")
    refused = run(settings)
    assert_refused(refused, "parquet", "20 leads after cleaning, down from 60", "MAX_ROW_DROP=0.5")
    assert metrics_by_subject(refused)["files"]["refused"] == 1
    assert warehouse.rows("select count(*) from gold.leads") == [(60,)]
    assert run(settings.model_copy(update={"max_row_drop": 0.7})).error is None
    assert warehouse.rows("select count(*) from gold.leads") == [(20,)]
    put_leads(bucket, 21)
    assert "after cleaning" not in "".join(map(str, run(settings).warnings))
