"""Only new and changed files are loaded, exactly once (specification §7)."""

from __future__ import annotations

import datetime
import gzip
import logging
from collections.abc import Callable

import loads
import pytest
from support import HEADER, Bucket, Warehouse

from etl.engine.run_report import RunReport

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")


# --- Changed files ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
def test_watched_tables_are_all_tables_with_rows(warehouse: Warehouse) -> None:
    assert loads.file_nodes(warehouse).keys() == loads.tables_of(loads.LAYERS, loads.DAYS) | loads.LEADS


@pytest.mark.usefixtures("loaded")
def test_unchanged_rerun_loads_nothing(run_pipeline: Run, warehouse: Warehouse) -> None:
    contents, nodes = warehouse.contents(), loads.file_nodes(warehouse)
    for _ in range(2):
        report = run_pipeline()
        assert report.error is None
        assert [(done.result.rows_in, done.result.rows_out) for done in report.steps] == [(0, 0)] * 6
        assert loads.metrics(report, 2)["files"]["skipped"] == len(loads.DAYS) + 1
        assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == set()
        assert warehouse.contents() == contents


@pytest.mark.usefixtures("loaded")
def test_changed_file_rewrites_only_its_own_day(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    nodes = loads.file_nodes(warehouse)
    bucket.put_snapshot(2, [*loads.rows_of_day(2, city="Reno"), {"LEADNUMBER": "99"}])
    report = run_pipeline()
    assert report.error is None
    assert loads.metrics(report, 2)["files"] == {"new": 0, "changed": 1, "skipped": 3, "refused": 0}
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == loads.tables_of(loads.LAYERS, [2])
    for table in ("silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        rows = warehouse.rows(f"select _partition_date::text, city, count(*) from {table} group by 1, 2 order by 1, 2")
        assert rows == [
            ("2024-10-01", "Boise", 5),
            ("2024-10-02", "Boise", 1),
            ("2024-10-02", "Reno", 6),
            ("2024-10-03", "Boise", 7),
        ]


@pytest.mark.usefixtures("loaded")
def test_file_uploaded_again_with_equal_content_is_not_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    nodes = loads.file_nodes(warehouse)
    bucket.put_snapshot(2, loads.rows_of_day(2))
    run_pipeline()
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == set()


@pytest.mark.usefixtures("loaded")
def test_new_leads_rebuild_matching_gold_days_and_no_silver_day(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    nodes = loads.file_nodes(warehouse)
    unmatched = "select count(*) from gold.lead_quality_matching where lead_uuid is null"
    assert warehouse.value(unmatched) > 0
    loads.put_leads(bucket, 7)
    assert run_pipeline().error is None
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == loads.tables_of(["gold"], loads.DAYS) | loads.LEADS
    assert warehouse.value(unmatched) == 0


@pytest.mark.usefixtures("loaded")
def test_files_23_and_400_load_without_a_code_change(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    nodes = loads.file_nodes(warehouse)
    bucket.put_snapshot(23, loads.rows_of_day(23))
    bucket.put_snapshot(400, loads.rows_of_day(400))
    report = run_pipeline()
    assert report.error is None
    assert loads.metrics(report, 2)["files"]["new"] == 2
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == loads.tables_of(loads.LAYERS, [23, 400])
    for table, day in (("silver.stg_csv_data_23", "2024-10-23"), ("silver.stg_csv_data_400", "2025-11-04")):
        assert warehouse.rows(f"select distinct _partition_date from {table}") == [(datetime.date.fromisoformat(day),)]
        for layer in ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching"):
            assert warehouse.value(f"select count(*) from {layer} where _partition_date = %s", day) == 4


@pytest.mark.usefixtures("loaded")
def test_day_of_a_file_deleted_from_s3_is_kept(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    contents, nodes = warehouse.contents(), loads.file_nodes(warehouse)
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_2.csv")
    assert run_pipeline().error is None
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == set()
    assert "SFTP/data_2.csv is no longer listed in S3: its rows are kept" in caplog.text
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents


@pytest.mark.usefixtures("loaded")
def test_file_with_another_key_for_the_same_day_is_not_reported_as_removed(
    bucket: Bucket, run_pipeline: Run, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("SFTP/data_2.csv.gz", gzip.compress(bucket.get("SFTP/data_2.csv")))
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_2.csv")
    assert run_pipeline().error is None
    assert "is no longer listed in S3" not in caplog.text


@pytest.mark.usefixtures("loaded")
def test_full_refresh_loads_everything_and_gives_equal_contents(run_pipeline: Run, warehouse: Warehouse) -> None:
    contents, nodes = warehouse.contents(), loads.file_nodes(warehouse)
    report = run_pipeline(full_refresh=True)
    assert report.error is None
    assert loads.metrics(report, 2)["files"] == {"new": 0, "changed": 0, "loaded again": 4, "skipped": 0, "refused": 0}
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == nodes.keys()
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


# --- Files without rows -----------------------------------------------------------------------------------------------

NO_ROWS = {
    "empty": b"",
    "one line end": b"\n",
    "byte order mark": b"\xef\xbb\xbf",
    "header only": ",".join(HEADER).encode(),
    "header and line end": ",".join(HEADER).encode() + b"\r\n",
    "separator": ",".join(HEADER).encode() + b"\n" + b",".join([b"-----"] * len(HEADER)),
    "total and blank rows": ",".join(HEADER).encode() + b"\nTotal: 0\n,,,,,,,,,,,\n,,,,,,,,,,,\n",
}


@pytest.mark.parametrize("content", NO_ROWS.values(), ids=NO_ROWS)
def test_file_without_rows_is_skipped_with_a_warning(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    bucket.put_snapshot(1, loads.rows_of_day(1))
    bucket.put("SFTP/data_2.csv", content)
    loads.put_leads(bucket)
    report = run_pipeline()
    assert report.error is None
    finding = f"s3://{bucket.name}/SFTP/data_2.csv contains no leads: 2024-10-02 has no data"
    assert finding in map(str, report.warnings)
    assert [record.levelno for record in caplog.records if finding in record.message] == [logging.WARNING]
    for layer in ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        assert warehouse.rows(f"select distinct _partition_date::text from {layer}") == [("2024-10-01",)]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("number", "name"), [(1, "separator"), (2, "header only"), (2, "total and blank rows")])
def test_file_that_lost_its_rows_keeps_its_day(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, number: int, name: str
) -> None:
    contents, nodes = warehouse.contents(), loads.file_nodes(warehouse)
    bucket.put(f"SFTP/data_{number}.csv", NO_ROWS[name])
    assert run_pipeline().error is None
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == set()
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
