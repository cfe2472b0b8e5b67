"""Unusual values, and files that lost their rows: end to end, from S3 to gold."""

from __future__ import annotations

import csv
import io

from fault_scenario import GOLD, ROWS, Scenario, assert_clear, put_version_b, rows_of_day, run
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse

from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

DAY = 6
KEY = f"SFTP/data_{DAY}.csv"
VALUES = [
    "00001",
    "NA",
    "nan",
    "NULL",
    "None",
    "=cmd()",
    "'; drop table gold.lead_quality_matching; --",
    'say "hello"',
    "two\nlines",
    "a,b",
    "\\N",
    "\\.",
    "🏠 Boise",
    "בויסי",
    " padded ",
    "1e5",
    "TRUE",
]
MISSING = {"nan", "None"}
"""NULL from silver on (specification §5)."""
MEGABYTE = "x" * 1_000_000
DATES = {
    "02/05/2023": "2023-02-05",
    "2023-02-05": "2023-02-05",
    "05-02-2023": "2023-02-05",
    "02/05/2023  1:00PM": "2023-02-05",
    "02/30/2023": None,
    "2/5": None,
    "yesterday": None,
    "": None,
}


def put_cells(bucket: Bucket, rows: list[dict[str, str]]) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(HEADER)
    writer.writerows([(ORDINARY_ROW | row)[name] for name in HEADER] for row in rows)
    bucket.put(KEY, sink.getvalue().encode())


def test_unusual_values_are_exact_in_bronze_and_cleaned_in_silver(settings: Settings) -> None:
    rows = [{"LEADNUMBER": str(number), "CITY": value} for number, value in enumerate(VALUES)]
    rows += [{"LEADNUMBER": str(100 + n), "ENTRYDATE": date} for n, date in enumerate(DATES)]
    rows += [{"LEADNUMBER": str(2**31)}, {"LEADNUMBER": "200", "CITY": MEGABYTE}]
    put_cells(Bucket(settings), rows)
    assert run(settings).error is None
    warehouse = Warehouse(settings)

    of_day = f"from {{}} where _partition_date = '2024-10-0{DAY}' order by 1"
    bronze = warehouse.rows(
        f'select _source_row, "LEADNUMBER", "CITY", "ENTRYDATE" {of_day}'.format("bronze.csv_snapshots")
    )
    full = [ORDINARY_ROW | row for row in rows]
    assert [row[1:] for row in bronze] == [
        (row["LEADNUMBER"], row["CITY"], row["ENTRYDATE"] or None) for row in full
    ], "bronze is exact"

    silver = warehouse.rows(f"select lead_number, city, entry_date::text {of_day}".format("silver.stg_csv_snapshots"))
    cities = [(n, None if value in MISSING else value, "2023-02-05") for n, value in enumerate(VALUES)]
    dates = [(100 + n, ORDINARY_ROW["CITY"], date) for n, date in enumerate(DATES.values())]
    assert silver == cities + dates
    gold = warehouse.rows(f"select lead_number, city {of_day}".format(GOLD))
    trimmed = {(number, city and city.strip(" \t\n\r\xa0")) for number, city, _ in silver}
    assert sorted(set(gold)) == sorted(trimmed), "gold trims cities"

    rejected = warehouse.rows(
        f"select raw_row ->> 'LEADNUMBER', length(raw_row ->> 'CITY') from silver.rejected_rows "
        f"where _source_file = '{KEY}' order by _source_row"
    )
    assert rejected == [(str(2**31), 5), ("200", len(MEGABYTE))], "rejected rows are kept"


def with_strict_limits(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_row_drop": 0.5, "max_reject_ratio": 0.1})


def test_file_with_less_than_half_the_rows_of_the_day_before_is_refused(scenario: Scenario, settings: Settings) -> None:
    Bucket(settings).put_snapshot(3, rows_of_day(3, "Boise")[: ROWS // 2 - 1])
    strict_settings = with_strict_limits(settings)
    report = run(strict_settings)
    close_connections()
    assert report.exit_code == 2
    assert_clear(report.error, "step 2", "SFTP/data_3.csv", "14 valid rows, down from 30", "MAX_ROW_DROP")
    warehouse = Warehouse(settings)
    assert warehouse.gold() == scenario.gold_of_a
    assert (
        warehouse.value("select count(*) from bronze.csv_snapshots where _source_file = 'SFTP/data_3.csv'") == ROWS + 2
    )


def test_too_many_rejects_are_refused_and_a_partial_run_publishes_the_rest(
    scenario: Scenario, settings: Settings
) -> None:
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    faulty = [{"LEADNUMBER": f"no {number}"} for number in range(4)]
    bucket.put_snapshot(3, [*rows_of_day(3, "Elko")[:-2], *faulty])
    strict_settings = with_strict_limits(settings)
    report = run(strict_settings)
    assert report.exit_code == 2
    assert_clear(report.error, "step 2", "SFTP/data_3.csv", "4 of its 34 records", "MAX_REJECT_RATIO")
    assert warehouse.gold() == scenario.gold_of_a

    report = run(strict_settings, allow_partial=True)
    close_connections()
    assert report.exit_code == 2
    assert_clear(report.error, "step 2", "SFTP/data_3.csv", "MAX_REJECT_RATIO")
    assert warehouse.contents() == scenario.b, "the refused day keeps its rows, which equal those of B"
    put_version_b(bucket)
    assert run(settings).error is None
    assert warehouse.contents() == scenario.b
