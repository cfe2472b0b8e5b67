"""The leads parquet as frames of text, and what is refused."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from etl.utils.errors import DataRefusedError, SourceError
from etl.utils.extract import extract_parquet
from etl.utils.frames import TEXT
from etl.utils.s3_source import SourceObject, find_leads

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
from mock_s3 import make_settings, put_objects

TODAY = date(2024, 11, 1)


LEADS_KEY = "parquet/leads.parquet"
LEADS = {"lead_UUID": ["a", None], "phone_hash": [" P ", "nan"], "email_hash": ["e", ""]}


def parquet_bytes(**columns: pa.Array | list[str | None]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def extracted_leads(s3: S3Client, body: bytes) -> pd.DataFrame:
    put_objects(s3, LEADS_KEY, body=body)
    return extract_parquet(s3, find_leads(s3, make_settings()), TODAY)


def test_leads_are_read_unchanged_with_extraction_date(s3: S3Client) -> None:
    expected = pd.DataFrame({**LEADS, "_extraction_date": "2024-11-01"}, dtype=TEXT)
    assert_frame_equal(extracted_leads(s3, parquet_bytes(**LEADS)), expected)


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=["large", "view", "dictionary"],
)
def test_leads_of_any_text_type_and_column_order_are_read(s3: S3Client, kind: pa.DataType) -> None:
    columns = {name: pa.array(cells).cast(kind) for name, cells in reversed(LEADS.items())}
    expected = pd.DataFrame({**LEADS, "_extraction_date": "2024-11-01"}, dtype=TEXT)
    assert_frame_equal(extracted_leads(s3, parquet_bytes(created_at=pa.array([1, 2]), **columns)), expected)


def test_other_columns_of_the_leads_are_not_read(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    columns_read: list[str] = []
    read_columns = pq.ParquetFile.read

    def read(file: pq.ParquetFile, columns: list[str] | None = None, **options: bool) -> pa.Table:
        columns_read.extend(columns or file.schema_arrow.names)
        return read_columns(file, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    assert len(extracted_leads(s3, parquet_bytes(payload=pa.array(["{}", "{}"]), **LEADS))) == 2
    assert columns_read == list(LEADS)


def test_parquet_column_without_any_value_is_refused(s3: S3Client) -> None:
    columns = {name: pa.array(cells) for name, cells in LEADS.items()} | {"email_hash": pa.nulls(2)}
    with pytest.raises(DataRefusedError, match="columns without any value: email_hash"):
        extracted_leads(s3, parquet_bytes(**columns))


def test_parquet_without_rows_is_refused(s3: S3Client) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet has no rows"):
        extracted_leads(s3, parquet_bytes(**{name: pa.array([], pa.string()) for name in LEADS}))


@pytest.mark.parametrize("cells", [pa.array([1, 2]), pa.array([[1], [2]]), pa.array([1, 1]).dictionary_encode()])
def test_parquet_column_of_another_type_is_refused_by_name(s3: S3Client, cells: pa.Array) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet: column phone_hash is .*, not text"):
        extracted_leads(s3, parquet_bytes(**LEADS | {"phone_hash": cells}))


def test_missing_parquet_columns_are_named(s3: S3Client) -> None:
    body = parquet_bytes(lead_id=["a"], phone_hash=["p"])
    with pytest.raises(DataRefusedError, match=r"missing columns: lead_UUID, email_hash\. Columns: lead_id"):
        extracted_leads(s3, body)


@pytest.mark.parametrize("second", ["lead_UUID", "LEAD_uuid"])
def test_duplicate_parquet_columns_are_named(s3: S3Client, second: str) -> None:
    sink = pa.BufferOutputStream()
    names = ["lead_UUID", "phone_hash", "email_hash", second]
    pq.write_table(pa.table([pa.array(["x"])] * 4, names=names), sink)
    with pytest.raises(DataRefusedError, match=rf"duplicate columns, ignoring case: lead_UUID, {second}"):
        extracted_leads(s3, sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    "body", [b"", b"lead_UUID,phone_hash\n", parquet_bytes(**LEADS)[:-20]], ids=["empty", "csv", "cut"]
)
def test_unreadable_parquet_is_refused(s3: S3Client, body: bytes) -> None:
    with pytest.raises(DataRefusedError, match=r"s3://leads/parquet/leads\.parquet cannot be read as parquet"):
        extracted_leads(s3, body)


def test_parquet_deleted_since_listing_is_named(s3: S3Client) -> None:
    with pytest.raises(SourceError, match=r"s3://leads/parquet/leads\.parquet: S3 returned NoSuchKey"):
        extract_parquet(s3, SourceObject("leads", LEADS_KEY, "etag", 1), TODAY)
