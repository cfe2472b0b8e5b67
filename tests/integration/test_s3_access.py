"""The S3 notebook shows permitted operations and existing files, and a hint for each failure."""

from __future__ import annotations

import gzip
import random
from datetime import date

import pytest
from support import HEADER, Bucket

from etl.reporting.s3_access import HEAD, check_access, headers, what_is_there
from etl.utils.utils_connection import Settings, caller_identity


@pytest.fixture
def filled(settings: Settings, bucket: Bucket) -> Settings:
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
    bucket.put_snapshot(3, [{"LEADNUMBER": "2"}, {"LEADNUMBER": "3"}], header=[*HEADER, "location"])
    bucket.put_leads([("u1", "p1", "e1")])
    return settings


def test_passed_checks_show_their_results(filled: Settings) -> None:
    access = check_access(filled)
    assert access.checks.sentence == "The pipeline can do everything it needs in S3."
    assert access.checks.rows["ok"].tolist() == ["yes"] * 5
    assert access.checks.rows["what_we_know"].tolist()[1:3] == [
        f"2 files under s3://{filled.s3_bucket_name}/SFTP/data_",
        "SFTP/data_3.csv: 2 records",
    ]
    assert access.first_rows["LEADNUMBER"].tolist() == ["2", "3"]
    assert access.first_leads["lead_UUID"].tolist() == ["u1"]


def test_listing_shows_files_sizes_dates_and_gaps(filled: Settings) -> None:
    there = what_is_there(filled, check_access(filled).files)
    assert there.rows["key"].tolist() == ["SFTP/data_1.csv", "SFTP/data_3.csv"]
    assert there.rows["last_modified"].notna().all()
    assert there.sentence.startswith(
        "2 CSV files, together 0.0 MB, for 1 October 2024 to 3 October 2024: 1 day between"
    )


def test_headers_are_read_per_file(filled: Settings) -> None:
    bucket = Bucket(filled)
    bucket.put("SFTP/data_4.csv.gz", gzip.compress(b"A,B\n" + random.Random(4).randbytes(2 * HEAD)))
    bucket.put("SFTP/data_5.csv.gz", b"\x1f\x8bdamaged")
    bucket.put("SFTP/data_6.csv", gzip.compress(b"C,D\n"))
    bucket.put("SFTP/data_7.csv.gz", b"E,F\n")
    bucket.put("SFTP/data_8.csv", b"\xfe\xff" + "G,H\n1,2\n".encode("utf-16-be"))
    found = headers(filled)
    assert found[date(2024, 10, 1)] == list(HEADER)
    assert found[date(2024, 10, 3)][-1] == "location"
    assert found[date(2024, 10, 4)] == ["A", "B"]
    assert date(2024, 10, 5) not in found
    assert found[date(2024, 10, 6)] == ["C", "D"]
    assert found[date(2024, 10, 7)] == ["E", "F"]
    assert found[date(2024, 10, 8)] == ["G", "H"]


FAILURES = [
    ({"s3_bucket_name": "no-such-bucket"}, "list the CSV files", "NoSuchBucket", "check S3_BUCKET_NAME"),
    ({"s3_sftp_files_prefix": "elsewhere/"}, "list the CSV files", "no CSV file", "check S3_SFTP_FILES_PREFIX"),
    ({"s3_parquet_file": "gone.parquet"}, "find the parquet", "404", "check S3_PARQUET_FILE"),
    ({"s3_parquet_file": "SFTP/data_1.csv"}, "read the parquet", "cannot be read as parquet", "request the file again"),
    ({"aws_endpoint_url_s3": "http://127.0.0.1:9"}, "list the CSV files", "Could not connect", "S3 cannot be reached"),
]


@pytest.mark.parametrize(("different", "check", "what_we_know", "what_to_do"), FAILURES)
def test_failed_check_has_a_hint_and_the_remaining_checks_run(
    filled: Settings, different: dict[str, str], check: str, what_we_know: str, what_to_do: str
) -> None:
    access = check_access(filled.model_copy(update=different))
    assert access.checks.sentence == f"Some checks failed. Fix this one first: {check}."
    rows = access.checks.rows.set_index("check")
    assert rows.loc[check, "ok"] == "no"
    assert what_we_know in rows.loc[check, "what_we_know"]
    assert what_to_do in rows.loc[check, "what_to_do"]
    assert "who we are" in rows.index
    assert "find the parquet" in rows.index
    assert what_is_there(filled, access.files).sentence


def test_refused_file_is_reported(filled: Settings, bucket: Bucket) -> None:
    bucket.put("SFTP/data_4.csv", b"a,b\n1,2\n")
    rows = check_access(filled).checks.rows.set_index("check")
    assert "its first line is not a header" in rows.loc["read a CSV file", "what_we_know"]


def test_refusal_of_all_files_is_a_failed_check(filled: Settings, bucket: Bucket) -> None:
    for number in (1, 3):
        bucket.put(f"SFTP/data_0{number}.csv", b"")
    access = check_access(filled)
    assert access.checks.sentence == "Some checks failed. Fix this one first: list the CSV files."
    assert "data_01.csv" in access.checks.rows.set_index("check").loc["list the CSV files", "what_we_know"]


def test_identity_on_an_s3_compatible_server_is_its_endpoint(filled: Settings) -> None:
    assert f"{filled.aws_endpoint_url_s3}" in caller_identity(filled)
