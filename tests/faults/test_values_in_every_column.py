"""Unusual values in each column are exact in bronze, and cleaned in silver.

Tests of the rules for single cells are in tests/unit; these values also pass through COPY, JSON and SQL.
"""

from __future__ import annotations

import csv
import io

import pytest
from fault_scenario import GOLD, run
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse
from test_values_and_drift import MEGABYTE, MISSING, VALUES

from etl.utils.utils_connection import Settings

DAY = 6
KEY = f"SFTP/data_{DAY}.csv"
DATE = f"2024-10-0{DAY}"
COLUMNS = (*HEADER, "location")
BRONZE = {"Appt Date": "APPT_DATE", "Job Status": "JOB_STATUS"}
SILVER = {name: BRONZE.get(name, name).lower() for name in COLUMNS} | {"ENTRYDATE": "entry_date"}
SILVER |= {"LEADNUMBER": "lead_number"}

TEXTS = ("email_hash", "phone_hash", "CITY", "Dispo", "Job Status", "location")
DATES = {
    "02/28/2023": "2023-02-28",
    "02/29/2024": "2024-02-29",
    "02/29/2023": None,
    "02/29/1900": None,
    "12/31/9999": "9999-12-31",
    "01/01/0001": "0001-01-01",
    "01/01/0000": None,
    "00/10/2023": None,
    "13/01/2023": None,
    "2023-12-31": "2023-12-31",
    "31-12-2023": "2023-12-31",
    "12-31-2023": None,
    "2023/12/31": None,
    "12/31/23": None,
    "1/2/2023": "2023-01-02",
    "1/2/23": None,
    "20231231": None,
    "45291": None,
    "Dec 31, 2023": None,
    "infinity": None,
    "today": None,
    "2023-12-31T23:59:59": "2023-12-31",
    "12/31/2023 24:00": None,
    " 12/31/2023 ": "2023-12-31",
    "nan": None,
    "": None,
}
ZIPS = {"02139": "02139", "098311": "98311", "89101-1234": "89101", "0": None, "2139": None, "NA": None, "1e5": None}
STATES = {"NV": "NV", "PR": "PR", "nv": None, "nu": None, "XX": None, "  ": None, "NULL": None}
NUMBERS = {
    "00042": 42,
    "+7": 7,
    "-7": -7,
    "2147483647": 2**31 - 1,
    "-2147483648": -(2**31),
    "": None,
    "None": None,
}
FLAGS = {"1": 1, "0": 0, "True": 1, "False": 0, "": None, " 1 ": 1}
NO_NUMBERS = ("2147483648", "-2147483649", "1.5", "1e5", "0x10", "1_000", "٣", "NULL", "NA", "=1+1", "'; drop")
NO_FLAGS = ("2", "truth", "yes", "NULL", "1.5")


def cases() -> list[tuple[str, str, object]]:
    """Return column, cell, and the value in silver."""
    texts = [
        (column, value, None if value in MISSING else value.strip() if column == "location" else value)
        for column in TEXTS
        for value in VALUES
    ]
    typed = {"ENTRYDATE": DATES, "Appt Date": DATES, "ZIP": ZIPS, "STATE": STATES, "LEADNUMBER": NUMBERS}
    typed |= {"Set": FLAGS, "Demo": FLAGS}
    return texts + [(column, cell, value) for column, rule in typed.items() for cell, value in rule.items()]


def put_rows(bucket: Bucket, rows: list[dict[str, str]]) -> None:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(ORDINARY_ROW | {"location": ""} | row for row in rows)
    bucket.put(KEY, sink.getvalue().encode())


def marker(number: int, column: str) -> dict[str, str]:
    """Return a cell that identifies the row in silver, where line numbers are not kept."""
    return {"Dispo" if column == "CITY" else "CITY": f"case {number}"}


def test_every_cell_is_exact_in_bronze_and_cleaned_in_silver(settings: Settings) -> None:
    put_rows(Bucket(settings), [marker(n, column) | {column: cell} for n, (column, cell, _) in enumerate(cases())])
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)

    in_order = f"select to_jsonb(t) from bronze.csv_snapshots t where _source_file = '{KEY}' order by _source_row"
    for (column, cell, _), (row,) in zip(cases(), warehouse.rows(in_order), strict=True):
        assert row[BRONZE.get(column, column)] == (cell or None), column

    for table in ("silver.stg_csv_snapshots", GOLD):
        rows = warehouse.rows(f"select to_jsonb(t) from {table} t where _partition_date = '{DATE}'")
        found = {mark: row for (row,) in rows for mark in (row["city"], row["dispo"])}
        for number, (column, cell, value) in enumerate(cases()):
            row = found[f"case {number}"]
            shown = row.get(SILVER[column], value)  # gold has no entry_date
            if column in ("CITY", "Dispo", "Job Status") and value and table == GOLD:
                value = value.strip(" \t\n\r\xa0")  # gold trims them
            assert (shown[:10] if shown and column in ("ENTRYDATE", "Appt Date") else shown) == value, (column, cell)
    assert rejected(warehouse) == []
    assert is_accounted_for(warehouse)


def rejected(warehouse: Warehouse) -> list[tuple[object, ...]]:
    return warehouse.rows(
        f"select _source_row, reason, raw_row from silver.rejected_rows where _source_file = '{KEY}' order by 1"
    )


INVALID = [
    *(("LEADNUMBER", cell, "LEADNUMBER is not a 32-bit integer") for cell in NO_NUMBERS),
    *((column, cell, f"{column} is not one of 0, 1") for column in ("Set", "Demo") for cell in NO_FLAGS),
    *((column, MEGABYTE, f"{SILVER[column]} is longer than") for column in TEXTS),
    ("Appt Date", "nu", "APPT_DATE is 'nu'"),
]


def test_every_invalid_cell_is_quarantined_with_its_whole_row(settings: Settings) -> None:
    beside = {"ZIP": 'x "y"\\\n🏠\u202e=1', "STATE": ""}
    rows = [ORDINARY_ROW | {"location": "x"} | beside | {column: cell} for column, cell, _ in INVALID]
    put_rows(Bucket(settings), [*rows, {"LEADNUMBER": "1"}])
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    for row, (*_, reason), (_, output, raw) in zip(rows, INVALID, rejected(warehouse), strict=True):
        assert reason in str(output)
        assert isinstance(raw, dict)
        assert {name: raw[BRONZE.get(name, name)] or "" for name in COLUMNS} == {name: row[name] for name in COLUMNS}
    assert lead_numbers(warehouse) == [1]
    assert is_accounted_for(warehouse)


@pytest.mark.parametrize("nul", ["\0", "a\0b"])
def test_nul_byte_in_any_column_rejects_only_its_own_row(settings: Settings, nul: str) -> None:
    put_rows(Bucket(settings), [{"LEADNUMBER": "1"}, *({column: nul} for column in COLUMNS), {"LEADNUMBER": "2"}])
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    found = rejected(warehouse)
    assert [row[:2] for row in found] == [(line, "NUL byte") for line in range(3, 3 + len(COLUMNS))]
    assert lead_numbers(warehouse) == [1, 2]
    assert is_accounted_for(warehouse)


def lead_numbers(warehouse: Warehouse) -> list[int]:
    query = f"select lead_number from silver.stg_csv_snapshots where _partition_date = '{DATE}' order by 1"
    return [number for (number,) in warehouse.rows(query)]


def is_accounted_for(warehouse: Warehouse) -> bool:
    """Return whether every record of the file is a row of silver, a rejected row or a separator."""
    (records, accounted) = warehouse.rows(
        "select record_count, (select count(*) from silver.rejected_rows r where r._source_file = s3_key) "
        "+ (select count(*) from silver.stg_csv_snapshots s where s._partition_date = f.partition_date) "
        f"from meta.ingested_files f where s3_key = '{KEY}'"
    )[0]
    return bool(records == accounted)
