"""List and download the objects of the pipeline in S3."""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from etl.utils.day import Day
from etl.utils.errors import SourceError
from etl.utils.s3_source import check_completeness, discover_snapshots, download, find_leads

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
from mock_s3 import make_settings, put_objects


def listed(s3: S3Client, **different: Any) -> list[tuple[str, int, str]]:
    return [
        (file.key, file.day.number, str(file.day)) for file in discover_snapshots(s3, make_settings(**different)).files
    ]


def test_snapshots_are_listed_in_numeric_order_despite_zeros_and_gaps(s3: S3Client) -> None:
    put_objects(s3, "SFTP/data_10.csv", "SFTP/data_9.csv", "SFTP/data_02.csv", "SFTP/data_400.csv", "SFTP/data_001.csv")
    assert listed(s3) == [
        ("SFTP/data_001.csv", 1, "2024-10-01"),
        ("SFTP/data_02.csv", 2, "2024-10-02"),
        ("SFTP/data_9.csv", 9, "2024-10-09"),
        ("SFTP/data_10.csv", 10, "2024-10-10"),
        ("SFTP/data_400.csv", 400, "2025-11-04"),
    ]


def test_snapshot_has_bucket_key_etag_and_size(s3: S3Client) -> None:
    etag = s3.put_object(Bucket="leads", Key="SFTP/data_1.csv", Body=b"abc")["ETag"]
    [file] = discover_snapshots(s3, make_settings()).files
    assert (file.bucket, file.key, file.etag, file.size) == ("leads", "SFTP/data_1.csv", etag.strip('"'), 3)


def test_files_beyond_first_page_of_listing_are_found(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # a page of S3 itself holds 1000 keys
    put_objects(s3, *(f"SFTP/data_{number}.csv" for number in range(1, 36)))
    assert len(s3.list_objects_v2(Bucket="leads")["Contents"]) == 10
    assert [number for _, number, _ in listed(s3)] == list(range(1, 36))


def test_keys_of_other_files_are_ignored_with_a_warning(s3: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    foreign = [
        "SFTP/data_0.csv",
        "SFTP/data_1.csv.bak",
        "SFTP/data_1.CSV",
        "SFTP/data_.csv",
        "SFTP/data_-1.csv",
        "SFTP/data_x.csv",
        "SFTP/data_1x.csv",
        "SFTP/data_2024/2.csv",
        "SFTP/data_\u0663.csv",
    ]
    put_objects(s3, "SFTP/data_7.csv", "SFTP/readme.txt", "parquet/leads.parquet", *foreign)
    with caplog.at_level(logging.WARNING):
        assert listed(s3) == [("SFTP/data_7.csv", 7, "2024-10-07")]
    (warning,) = caplog.messages
    assert warning.startswith("bucket leads: 9 keys ignored that do not match SFTP/data_<number>.csv or .csv.gz, with ")
    assert all(key in warning for key in foreign)


def test_control_characters_of_ignored_keys_are_escaped(s3: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    put_objects(s3, "SFTP/data_7.csv", "SFTP/data_9\n12:00:00 INFO forged\x1b[2J.csv")
    with caplog.at_level(logging.WARNING):
        assert len(listed(s3)) == 1
    assert r"SFTP/data_9\n12:00:00 INFO forged\x1b[2J.csv" in caplog.messages[0]


def test_prefix_is_matched_literally(s3: S3Client) -> None:
    put_objects(s3, "a.b(c/1.csv", "a.b(c/2.csv", "axb(c/3.csv")
    assert [number for _, number, _ in listed(s3, s3_sftp_files_prefix="a.b(c/")] == [1, 2]


def test_two_files_with_one_number_are_refused_by_name(s3: S3Client) -> None:
    put_objects(s3, "SFTP/data_2.csv", "SFTP/data_1.csv", "SFTP/data_01.csv")
    found = discover_snapshots(s3, make_settings())
    assert [file.key for file in found.files] == ["SFTP/data_2.csv"], "other files are accepted"
    (refused,) = found.refused
    assert re.search(r"SFTP/data_01\.csv and SFTP/data_1\.csv .* file number, 1", refused.message)
    assert refused.hint


def test_days_between_refused_files_are_missing(s3: S3Client) -> None:
    """Two files for one day are refused, but the days between it and the others have no file."""
    put_objects(s3, *(f"SFTP/data_{number}.csv" for number in ("1", "01", "3", "6", "06", "9999999")))
    found = discover_snapshots(s3, make_settings())
    assert len(found.refused) == 3
    assert [day.number for day in found.days] == [1, 3, 6]
    assert found.missing == "no files for 3 days: 2024-10-02, 2024-10-04 to 2024-10-05 (the first is file number 2)"


def test_later_day_with_a_similar_key_is_missing(s3: S3Client) -> None:
    today = (datetime.now(UTC).date() - date(2024, 10, 1)).days + 1
    others = ("2.CSV", "10.csv.bak", f"{today}.csv.part", f"{today + 1}.csv.part", "999999999.csv.part")
    put_objects(s3, "SFTP/data_9.csv", *(f"SFTP/data_{other}" for other in others))
    found = discover_snapshots(s3, make_settings())
    assert found.missing == (
        f"no files for 2 days: 2024-10-10, {datetime.now(UTC).date()} (the first is file number 10); "
        f"similar keys that were ignored: SFTP/data_10.csv.bak, SFTP/data_{today}.csv.part"
    )


def test_late_days_are_listed_even_if_no_file_is_accepted() -> None:
    settings = make_settings(partition_start_date="2024-10-01", max_days_late="0")
    (finding,) = check_completeness([], None, settings)
    today = datetime.now(UTC).date()
    assert finding.startswith("there is no file for a day up to today; a file for ")
    assert "; late days: 2024-10-01 to " in finding
    latest = Day.of_file(1, today - timedelta(1))
    (finding,) = check_completeness([latest], None, settings)
    assert finding.endswith(f"for {today} was expected by now (MAX_DAYS_LATE)")
    later = make_settings(partition_start_date=str(today + timedelta(1)), max_days_late="0")
    assert check_completeness([], None, later) == []


def test_file_number_beyond_the_calendar_is_refused_by_name(s3: S3Client) -> None:
    keys = [f"SFTP/data_{number}.csv" for number in ("9999999", "9" * 30)]
    put_objects(s3, "SFTP/data_1.csv", *keys)
    found = discover_snapshots(s3, make_settings())
    assert [file.key for file in found.files] == ["SFTP/data_1.csv"]
    for key, refused in zip(keys, found.refused, strict=True):
        assert key in refused.message
        assert "PARTITION_START_DATE" in str(refused.hint)


def test_listing_without_snapshots_names_prefix_and_setting(s3: S3Client) -> None:
    put_objects(s3, "SFTP/readme.txt", "SFTP/data_1.CSV")
    with pytest.raises(SourceError, match=r"s3://leads/SFTP/data_<number>\.csv .*ignored: SFTP/data_1\.CSV\n") as error:
        discover_snapshots(s3, make_settings())
    assert "S3_SFTP_FILES_PREFIX" in str(error.value.hint)


def test_missing_bucket_is_named(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://elsewhere/SFTP/data_: S3 returned NoSuchBucket") as error:
        discover_snapshots(s3, make_settings(s3_bucket_name="elsewhere"))
    assert "S3_BUCKET_NAME" in str(error.value.hint)


@pytest.mark.parametrize("override", ["other", "other/", "other/parquet", "other/a/b"])
def test_bucket_setting_before_first_slash_overrides_the_bucket(s3: S3Client, override: str) -> None:
    s3.create_bucket(Bucket="other")
    put_objects(s3, "SFTP/data_1.csv", "parquet/leads.parquet", bucket="other")
    put_objects(s3, "SFTP/data_2.csv", "parquet/leads.parquet")
    both = {"s3_sftp_bucket": override, "s3_parquet_bucket": override}
    assert [str(file) for file in discover_snapshots(s3, make_settings(**both)).files] == ["s3://other/SFTP/data_1.csv"]
    assert str(find_leads(s3, make_settings(**both))) == "s3://other/parquet/leads.parquet"

    only_parquet = make_settings(s3_parquet_bucket=override)
    assert [str(file) for file in discover_snapshots(s3, only_parquet).files] == ["s3://leads/SFTP/data_2.csv"]
    assert find_leads(s3, only_parquet).bucket == "other"


def test_object_changed_since_listing_is_not_read(s3: S3Client) -> None:
    put_objects(s3, "SFTP/data_1.csv", body=b"old")
    [file] = discover_snapshots(s3, make_settings()).files
    assert download(s3, file) == b"old"
    put_objects(s3, "SFTP/data_1.csv", body=b"new")
    with pytest.raises(SourceError, match=r"s3://leads/SFTP/data_1\.csv") as error:
        download(s3, file)
    assert "rerun" in str(error.value.hint)


def test_folder_with_a_marker_object_is_read(s3: S3Client) -> None:
    put_objects(s3, "leads.parquet/", "leads.parquet/part-0.parquet", body=b"")
    settings = make_settings(s3_parquet_file="leads.parquet/")
    assert find_leads(s3, settings).key == "leads.parquet/part-0.parquet"


def test_parts_of_a_job_that_did_not_complete_are_not_read(s3: S3Client) -> None:
    settings, part = make_settings(s3_parquet_file="_spark/leads.parquet"), "part-0.parquet"
    put_objects(s3, f"_spark/leads.parquet/_temporary/0/task_1/{part}", f"_spark/leads.parquet/.{part}", body=b"")
    with pytest.raises(SourceError, match=r"s3://leads/_spark/leads\.parquet"):
        find_leads(s3, settings)
    put_objects(s3, f"_spark/leads.parquet/day=1/{part}", body=b"")
    assert find_leads(s3, settings).key == f"_spark/leads.parquet/day=1/{part}"


def test_part_may_have_any_name(s3: S3Client) -> None:
    put_objects(s3, "leads.parquet/data_0.parquet", "leads.parquet/_SUCCESS", body=b"")
    settings = make_settings(s3_parquet_file="leads.parquet")
    assert find_leads(s3, settings).key == "leads.parquet/data_0.parquet"


def test_missing_parquet_is_named_with_its_setting(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://leads/parquet/leads\.parquet") as error:
        find_leads(s3, make_settings())
    assert "S3_PARQUET_FILE" in str(error.value.hint)
