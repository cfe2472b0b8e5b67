"""An invalid parquet is refused by name, and gold keeps its leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_scenario import (
    GOLD,
    Scenario,
    assert_clear,
    assert_rerun_repairs_everything,
    database_with_version_a,
    put_leads,
    put_version_b,
    run,
)
from support import LONG, Bucket, Warehouse

from etl.utils.utils_connection import Settings

KEY = "parquet/leads.parquet"
LEADS = 12
"""Number of leads in version B."""
NUMBERS = range(LEADS)
VALID_COLUMNS = {
    "lead_UUID": [f"lead {number}" for number in NUMBERS],
    "phone_hash": [f"p{number}" for number in NUMBERS],
    "email_hash": [f"e{number}" for number in NUMBERS],
}


def parquet_of(columns: Mapping[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue().to_pybytes()


def without(name: str) -> dict[str, Any]:
    return {column: cells for column, cells in VALID_COLUMNS.items() if column != name}


BODY = parquet_of(VALID_COLUMNS)
NO_LEADS = {name: pa.array([], pa.string()) for name in VALID_COLUMNS}
HALF_IDS = {name: [None, "x"] if name == "phone_hash" else ["x", None] for name in VALID_COLUMNS}
REFUSED = {
    "truncated": (BODY[: len(BODY) // 2], "step 2, ", "cannot be read as parquet"),
    "truncated at its start": (BODY[4:], "step 2, ", "cannot be read as parquet"),
    "one byte of data flipped": (BODY[:60] + bytes([BODY[60] ^ 0xFF]) + BODY[61:], "step 2, ", ""),
    "of no bytes": (b"", "step 2, ", "cannot be read as parquet"),
    "without a row": (parquet_of(NO_LEADS), "step 2, ", "has no rows"),
    "numbers": (
        parquet_of(VALID_COLUMNS | {"lead_UUID": list(NUMBERS)}),
        "step 2, ",
        "column lead_UUID is int64, not text",
    ),
    "bytes that are no text": (
        parquet_of(VALID_COLUMNS | {"email_hash": [b"\xff"] * LEADS}),
        "step 2, ",
        "column email_hash is not UTF-8",
    ),
    "text that is not UTF-8": (
        parquet_of(VALID_COLUMNS | {"email_hash": pa.array([b"e\xe9"] * LEADS).view(pa.string())}),
        "step 2, ",
        "column email_hash is not UTF-8",
    ),
    "lists": (parquet_of(VALID_COLUMNS | {"phone_hash": [["p"]] * LEADS}), "step 2, ", "column phone_hash is list"),
    "a column absent": (parquet_of(without("email_hash")), "step 2, ", "missing columns: email_hash"),
    "a column without a value": (
        parquet_of(VALID_COLUMNS | {"phone_hash": pa.nulls(LEADS, pa.string())}),
        "step 2, ",
        "without any value: phone_hash",
    ),
    "no row with all ids": (parquet_of(HALF_IDS), "step 3, ", "none of its 2 rows has lead_UUID, phone_hash and"),
    "ids that are all too long": (
        parquet_of(VALID_COLUMNS | {"phone_hash": ["p" * 256] * LEADS}),
        "step 3, ",
        "has lead_UUID, phone_hash and email_hash, each of at most 255 characters",
    ),
}


IN_SHORT = ("truncated", "numbers", "text that is not UTF-8", "without a row")


@pytest.mark.parametrize("name", REFUSED if LONG else IN_SHORT)
def test_invalid_parquet_is_refused_by_name(scenario: Scenario, settings: Settings, name: str) -> None:
    body, step, fault = REFUSED[name]
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    bucket.put(KEY, body)
    for _ in range(2):
        report = run(settings)
        assert report.exit_code == 2, report.error
        assert_clear(report.error, step, KEY, fault, "→ request the file again")
        assert warehouse.gold() == scenario.gold_of_a
        assert warehouse.fingerprint("silver.stg_leads_parquet") == scenario.a["silver.stg_leads_parquet"]
    put_version_b(bucket)
    assert_rerun_repairs_everything(scenario, settings)


@pytest.fixture(scope="module")
def gold_of_b_with_leads_of_a(scenario: Scenario) -> dict[str, str]:
    with database_with_version_a(scenario, "leads_of_a") as settings:
        put_leads(Bucket(settings), 8)
        assert run(settings).error is None
        return Warehouse(settings).gold()


PARTIAL = REFUSED if LONG else ("truncated", "no row with all ids")


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_run_publishes_days_with_the_leads_loaded_before(
    settings: Settings, gold_of_b_with_leads_of_a: dict[str, str], name: str
) -> None:
    body, step, fault = REFUSED[name]
    Bucket(settings).put(KEY, body)
    report = run(settings, allow_partial=True)
    assert report.exit_code == 2
    assert_clear(report.error, step, KEY, fault)
    assert Warehouse(settings).gold() == gold_of_b_with_leads_of_a


def twice(cells: list[str]) -> list[str]:
    return [*cells, *reversed(cells)]


def test_duplicate_leads_are_loaded_once_and_reported(
    scenario: Scenario, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Bucket(settings).put(KEY, parquet_of({name: twice(cells) for name, cells in VALID_COLUMNS.items()}))
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    assert warehouse.value("select count(*) from bronze.leads_parquet") == 2 * LEADS
    for table in ("silver.stg_leads_parquet", GOLD):
        assert warehouse.fingerprint(table) == scenario.b[table]
    assert is_logged(caplog, f"leads: 0 dropped because an id is missing, {LEADS} as duplicates")
    metrics = warehouse.value("select facts from meta.table_loads where table_name = 'silver.stg_leads_parquet'")
    assert metrics == {"missing_id": 0, "duplicates": LEADS}


def test_uuid_shared_by_two_leads_is_reported_and_both_are_loaded(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Bucket(settings).put(KEY, parquet_of(VALID_COLUMNS | {"lead_UUID": ["lead 0", *VALID_COLUMNS["lead_UUID"][:-1]]}))
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    uuid = "select phone_hash, email_hash from silver.stg_leads_parquet where lead_uuid = 'lead 0' order by 1"
    assert warehouse.rows(uuid) == [("p0", "e0"), ("p1", "e1")]
    assert is_logged(caplog, "every lead_uuid should belong to one backend lead")


def is_logged(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return any(what in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
