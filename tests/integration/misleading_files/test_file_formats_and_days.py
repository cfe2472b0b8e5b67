"""Files of other formats and unexpected days: read, refused by name, or reported.

The folders of `../shared/cases` are inputs on which earlier versions fell short; the other inputs are of their classes.
"""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime

import pytest
from file_runs import assert_refused, csv_of, leads, put_case, put_leads, run
from support import Bucket, Warehouse

from etl.engine.dry_run import plan_run
from etl.pipeline import choose_steps
from etl.utils.errors import DataRefusedError
from etl.utils.utils_connection import Settings

# --- days -------------------------------------------------------------------------------------------------------------


def test_day_in_the_future_is_refused(settings: Settings, bucket: Bucket) -> None:
    tomorrow = (datetime.now(UTC).date() - date(2024, 10, 1)).days + 2
    put_leads(bucket)
    bucket.put_snapshot(1, leads(5))
    for number in (tomorrow, 241023):
        bucket.put_snapshot(number, leads(5))
    assert_refused(
        run(settings), f"SFTP/data_{tomorrow}.csv: its snapshot day", "SFTP/data_241023.csv", "is in the future"
    )
    for number in (tomorrow, 241023):
        bucket.client.delete_object(Bucket=bucket.name, Key=f"SFTP/data_{number}.csv")
    bucket.put_snapshot(tomorrow - 1, leads(5))
    assert run(settings).error is None, "today is no day in the future"


def test_files_of_another_calendar_do_not_replace_days(
    settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(5))
    assert run(settings).error is None
    bucket.put("SFTP2/data_1.csv", csv_of(leads(6)))
    others = {"s3_sftp_files_prefix": "SFTP2/data_", "partition_start_date": date(2025, 1, 1)}
    finding = "file number 1 was loaded as day 2024-10-01, but PARTITION_START_DATE now makes it 2025-01-01"
    assert_refused(run(settings.model_copy(update=others)), "SFTP2/data_1.csv", finding)
    assert warehouse.value("select min(_partition_date)::text from gold.lead_quality_matching") == "2024-10-01"
    assert run(settings.model_copy(update={"s3_sftp_files_prefix": "SFTP2/data_"})).error is None


@pytest.mark.parametrize(("prefix", "start"), [("SFTP2/data_", date(2024, 9, 21)), ("SFTP/data_1", date(2024, 10, 1))])
def test_files_with_other_numbers_do_not_replace_days(
    settings: Settings, bucket: Bucket, prefix: str, start: date
) -> None:
    put_leads(bucket)
    for number in (1, 2, 13):
        bucket.put_snapshot(number, leads(number))
    assert run(settings).error is None
    bucket.put("SFTP2/data_11.csv", csv_of(leads(6)))
    others = settings.model_copy(update={"s3_sftp_files_prefix": prefix, "partition_start_date": start})
    with pytest.raises(DataRefusedError, match="was loaded with another file number than"):
        plan_run(others, choose_steps())
    assert_refused(run(others), "was loaded with another file number than", "S3_SFTP_FILES_PREFIX")
    assert run(settings).error is None


def test_missing_day_of_the_case_is_named(settings: Settings, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    put_case(bucket, "05-missing-day")
    assert run(settings).error is None
    assert "no file for 2024-10-03 (file number 3)" in caplog.messages


def test_gap_and_late_day_are_refused_on_request(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    put_leads(bucket)
    for number in (1, 3):
        bucket.put_snapshot(number, leads(5, ZIP=f"0000{number}"))
    late = settings.model_copy(update={"max_days_late": 1})
    report = run(late)
    assert report.error is None
    gap, lateness = map(str, report.warnings)
    assert gap == "no file for 2024-10-02 (file number 2)"
    assert lateness.startswith("the latest file is for 2024-10-03; a file for ")
    assert warehouse.value("select checks from meta.pipeline_runs") == [gap, lateness]
    assert_refused(run(late.model_copy(update={"missing_days": "refuse"})), gap, lateness, "MISSING_DAYS")
    today = (datetime.now(UTC).date() - date(2024, 10, 1)).days + 1
    for number in (2, today - 1):
        bucket.put_snapshot(number, leads(5))
    assert not any("late" in warning for warning in run(late).warnings)


def test_file_without_rows_counts_as_missing(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    bucket.put_snapshot(1, leads(5))
    bucket.put_snapshot(2, [])
    today = settings.model_copy(update={"max_days_late": 0, "missing_days": "refuse"})
    assert_refused(run(today), "SFTP/data_2.csv contains no leads", "the latest file is for 2024-10-01", "MISSING_DAYS")


def test_snapshot_that_is_delivered_for_two_days_is_named_once(settings: Settings, bucket: Bucket) -> None:
    put_leads(bucket)
    for number in (1, 2):
        bucket.put_snapshot(number, leads(5, ZIP=f"0000{number}"))
    assert run(settings).warnings == []
    bucket.put_snapshot(3, leads(5, ZIP="00002"))
    (finding,) = run(settings).warnings
    assert finding.endswith(
        "data_3.csv has the same content as SFTP/data_2.csv: 2024-10-02 was probably delivered again as 2024-10-03"
    )
    assert run(settings).warnings == []
    bucket.put_snapshot(4, leads(5, ZIP="00001"))
    (finding,) = run(settings).warnings
    assert "data_4.csv has the same content as SFTP/data_1.csv" in finding


def test_gaps_are_named_as_ranges_with_keys_that_look_like_their_files(
    settings: Settings, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    put_leads(bucket)
    for number in (2, 3, 7, 9):
        bucket.put_snapshot(number, leads(5))
    for key in ("SFTP/data_5.CSV", "SFTP/data_06.csv.bak", "SFTP/data_8 (1).csv", "SFTP/data_9.txt"):
        bucket.put(key, b"")
    assert run(settings).error is None
    assert [message for message in caplog.messages if message.startswith("no file")] == [
        "no files for 4 days: 2024-10-04 to 2024-10-06, 2024-10-08 (the first is file number 4); "
        "similar keys that were ignored: SFTP/data_06.csv.bak, SFTP/data_5.CSV, SFTP/data_8 (1).csv",
    ]


# --- what is no CSV file ----------------------------------------------------------------------------------------------


def test_gzip_file_of_the_case_is_read(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    put_case(bucket, "18-not-a-csv-at-all")
    assert run(settings).error is None
    assert warehouse.value("select count(distinct _partition_date) from gold.lead_quality_matching") == 2


@pytest.mark.parametrize("key", ["SFTP/data_1.csv", "SFTP/data_01.csv.gz"])
def test_gzip_file_is_read_under_both_names(settings: Settings, bucket: Bucket, warehouse: Warehouse, key: str) -> None:
    put_leads(bucket)
    bucket.put(key, gzip.compress(csv_of(leads(5))))
    assert run(settings).error is None
    assert warehouse.rows("select distinct _source_file, _source_row from bronze.csv_snapshots order by 2 limit 1") == [
        (key, 2)
    ]


CONTENT = csv_of(leads(5)).decode()
NOT_CSV = {
    "damaged gzip file": gzip.compress(CONTENT.encode())[:-20],
    "compressed twice with gzip": gzip.compress(gzip.compress(CONTENT.encode())),
    "an Excel workbook": b"PK\x03\x04\x14\x00" + bytes(range(256)),
    "old format (.xls)": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
    "an HTML page": b"\n<!DOCTYPE HTML>\n<html><body>Sign in</body></html>",
    "an XML or HTML document": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "a parquet file": b"PAR1" + bytes(50),
    "a JSON document": b'[{"LEADNUMBER": 1}]',
    "separated by semicolons": CONTENT.replace(",", ";").encode(),
    "separated by tabs": CONTENT.replace(",", "\t").encode(),
    "separated by vertical bars": CONTENT.replace(",", "|").encode(),
    "an Excel export that starts with a sep=… line": b"sep=;\n" + CONTENT.replace(",", ";").encode(),
    "an Excel export that starts with a sep=": b'"sep=,"\n' + CONTENT.encode(),
    "an Excel export that starts with a sep=…": ("sep=,\n" + CONTENT).encode("utf-16"),
    "an HTML page, not": b"\xef\xbb\xbf" * 2 + b"<html><body>error</body></html>",
    "UTF-16 or UTF-32 without": CONTENT.encode("utf-16-le"),
    "or UTF-32 without a byte order mark": CONTENT.encode("utf-32-be"),
}


@pytest.mark.parametrize("kind", NOT_CSV)
def test_file_of_another_format_is_refused_by_name(settings: Settings, bucket: Bucket, kind: str) -> None:
    put_leads(bucket)
    bucket.put("SFTP/data_1.csv", NOT_CSV[kind])
    report = run(settings)
    assert_refused(report, "s3://", "SFTP/data_1.csv", kind)
    assert "missing required columns" not in str(report.error)


@pytest.mark.parametrize(
    "before", ["\ufeff\ufeff", "\ufeff ", "\u200b", "\xa0", "\t", "\u2060\ufeff"], ids=[repr(n) for n in range(6)]
)
def test_invisible_characters_around_column_names_are_ignored(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, before: str
) -> None:
    put_leads(bucket)
    content = csv_of(leads(5)).decode().replace("LEADNUMBER,", f"{before}LEADNUMBER{before},")
    bucket.put("SFTP/data_1.csv", (before + content).encode())
    assert run(settings).error is None
    assert warehouse.value("select count(*) from gold.leads where lead_number is not null") == 5


def test_folder_of_spark_is_read_or_named(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, leads(5))
    put_leads(bucket)
    parquet = bucket.get("parquet/leads.parquet")
    bucket.client.delete_object(Bucket=bucket.name, Key="parquet/leads.parquet")
    bucket.put("parquet/leads.parquet/_SUCCESS", b"")
    bucket.put("parquet/leads.parquet/part-00000-c000.snappy.parquet", parquet)
    assert run(settings).error is None
    assert warehouse.value("select count(*) from gold.leads") == 5
    bucket.put("parquet/leads.parquet/part-00001-c000.snappy.parquet", parquet)
    report = run(settings)
    assert report.exit_code == 1
    assert "parquet/leads.parquet is a folder with 2 parts, as Spark writes it" in str(report.error)


@pytest.mark.parametrize("flag", ["0", ""])
def test_demo_that_contradicts_sales_from_the_first_days_on_is_reported(
    settings: Settings, bucket: Bucket, flag: str
) -> None:
    for day in range(1, 4):
        bucket.put_snapshot(day, leads(60, Dispo="Sale", Demo="1" if day == 1 else flag))
    put_leads(bucket)
    finding = "sale_without_demo_share is 100.0 %, expected 0.0 %: 2024-10-02 to 2024-10-03"
    assert finding in str(run(settings).warnings)


@pytest.mark.parametrize("flag", ["0", ""])
def test_flag_that_contradicts_appointments_from_the_first_days_on_is_reported(
    settings: Settings, bucket: Bucket, warehouse: Warehouse, flag: str
) -> None:
    appointment = {"Appt Date": "10/01/2024  1:00PM"}
    for day in range(1, 4):
        bucket.put_snapshot(day, leads(60, Set="1" if day == 1 else flag, **appointment))
    put_leads(bucket)
    report = run(settings)
    assert "appt_date_without_set_share is 100.0 %, expected 0.0 %: 2024-10-02 to 2024-10-03" in str(report.warnings)
    assert warehouse.value("select count(*) from gold.lead_status_history where not is_current") == 5
    assert warehouse.value("select count(*) from gold.status_changes") == 0
