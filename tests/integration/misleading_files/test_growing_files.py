"""Files with far more rows than the snapshot before are refused, unless bronze already contains them."""

from __future__ import annotations

import pytest
from file_runs import assert_refused, leads, put_leads, run
from support import HEADER, Bucket

from etl.utils.utils_connection import Settings


@pytest.mark.parametrize(
    ("before", "after", "refused"), [(60, 121, True), (60, 120, False), (10, 49, False), (20, 50, True)]
)
def test_growth_beyond_the_limit_is_refused(
    settings: Settings, bucket: Bucket, before: int, after: int, refused: bool
) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(before))
    bucket.put_snapshot(2, leads(after))
    report = run(settings)
    if refused:
        assert_refused(
            report, f"SFTP/data_2.csv: {after} valid rows, up from {before} on 2024-10-01", "more than MAX_ROW_GROWTH=1"
        )
        report = run(settings.model_copy(update={"max_row_growth": 2.0}))
    assert report.error is None


def test_accepted_files_are_accepted_again_by_a_full_refresh(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(2, leads(60))
    assert run(settings).error is None
    bucket.put_snapshot(1, leads(20))  # late, and so small that file 2 would be refused
    bucket.put_snapshot(3, leads(60) + [leads(1)[0] | {"LEADNUMBER": "x"}] * 6)
    assert_refused(run(settings), "SFTP/data_3.csv: 6 of its 66 records", "more than MAX_REJECT_RATIO=0.05")
    assert run(settings.model_copy(update={"max_reject_ratio": 0.1})).error is None
    assert run(settings, full_refresh=True).error is None
    bucket.put_snapshot(2, leads(61))
    assert_refused(run(settings), "SFTP/data_2.csv: 61 valid rows, up from 20")


def test_growth_after_a_day_whose_rows_were_all_rejected_is_accepted(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(5))
    assert run(settings).error is None
    line = ",".join(["x"] * (len(HEADER) + 1))
    bucket.put("SFTP/data_1.csv", f"{','.join(HEADER)}\n{line}\n".encode())
    bucket.put_snapshot(2, leads(60))
    assert run(settings.model_copy(update={"max_reject_ratio": 1.0, "max_row_drop": 1.0})).error is None
