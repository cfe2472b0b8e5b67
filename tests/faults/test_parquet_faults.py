"""A Source of Truth that is none: refused by name, and gold stays on the leads that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scenario import (
    GOLD,
    LONG,
    Story,
    assert_clear,
    assert_one_rerun_mends_everything,
    database_with_version_a,
    put_leads,
    put_version_b,
    run,
)
from support import Bucket, Warehouse

from etl.utils.utils_connection import Settings

KEY = "parquet/leads.parquet"
LEADS = 12
"""In version B."""
NUMBERS = range(LEADS)
WHOLE = {
    "lead_UUID": [f"lead {number}" for number in NUMBERS],
    "phone_hash": [f"p{number}" for number in NUMBERS],
    "email_hash": [f"e{number}" for number in NUMBERS],
}


def parquet_of(columns: Mapping[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue().to_pybytes()


def without(name: str) -> dict[str, Any]:
    return {column: cells for column, cells in WHOLE.items() if column != name}


BODY = parquet_of(WHOLE)
NO_LEADS = {name: pa.array([], pa.string()) for name in WHOLE}
HALF_IDS = {name: [None, "x"] if name == "phone_hash" else ["x", None] for name in WHOLE}
REFUSED = {
    "truncated": (BODY[: len(BODY) // 2], "step 2, ", "cannot be read as parquet"),
    "truncated at its start": (BODY[4:], "step 2, ", "cannot be read as parquet"),
    "one byte of data flipped": (BODY[:60] + bytes([BODY[60] ^ 0xFF]) + BODY[61:], "step 2, ", ""),
    "of no bytes": (b"", "step 2, ", "cannot be read as parquet"),
    "without a row": (parquet_of(NO_LEADS), "step 2, ", "has no rows"),
    "numbers": (parquet_of(WHOLE | {"lead_UUID": list(NUMBERS)}), "step 2, ", "column lead_UUID is int64, not text"),
    "bytes": (parquet_of(WHOLE | {"email_hash": [b"e"] * LEADS}), "step 2, ", "column email_hash is binary, not text"),
    "lists": (parquet_of(WHOLE | {"phone_hash": [["p"]] * LEADS}), "step 2, ", "column phone_hash is list"),
    "a column absent": (parquet_of(without("email_hash")), "step 2, ", "missing columns: email_hash"),
    "a column without a value": (
        parquet_of(WHOLE | {"phone_hash": pa.nulls(LEADS, pa.string())}),
        "step 2, ",
        "without any value: phone_hash",
    ),
    "no row with all ids": (parquet_of(HALF_IDS), "step 3, ", "none of its 2 rows has all three ids"),
}


IN_SHORT = ("truncated", "numbers", "a column absent", "without a row")


@pytest.mark.parametrize("name", REFUSED if LONG else IN_SHORT)
def test_invalid_parquet_is_refused_by_name(story: Story, settings: Settings, name: str) -> None:
    body, step, fault = REFUSED[name]
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    bucket.put(KEY, body)
    for _ in range(2):
        report = run(settings)
        assert report.exit_code == 2, report.error
        assert_clear(report.error, step, KEY, fault, "→ request the file again")
        assert warehouse.gold() == story.gold_of_a
        assert warehouse.fingerprint("silver.stg_leads_parquet") == story.a["silver.stg_leads_parquet"]
    put_version_b(bucket)
    assert_one_rerun_mends_everything(story, settings)


@pytest.fixture(scope="module")
def gold_of_b_with_leads_of_a(story: Story) -> dict[str, str]:
    with database_with_version_a(story, "leads_of_a") as settings:
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


def with_every_lead_twice(cells: list[str]) -> list[str]:
    return [*cells, *reversed(cells)]


def test_duplicate_leads_are_loaded_once_and_reported(
    story: Story, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Bucket(settings).put(KEY, parquet_of({name: with_every_lead_twice(cells) for name, cells in WHOLE.items()}))
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    assert warehouse.value("select count(*) from bronze.leads_parquet") == 2 * LEADS
    for table in ("silver.stg_leads_parquet", GOLD):
        assert warehouse.fingerprint(table) == story.b[table]
    assert told(caplog, f"leads: 0 rows without an id and {LEADS} duplicates left out")
    metrics = warehouse.value("select facts from meta.table_loads where table_name = 'silver.stg_leads_parquet'")
    assert metrics == {"missing_id": 0, "duplicates": LEADS}


def test_uuid_shared_by_two_leads_is_reported_and_both_are_loaded(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Bucket(settings).put(KEY, parquet_of(WHOLE | {"lead_UUID": ["lead 0", *WHOLE["lead_UUID"][:-1]]}))
    report = run(settings)
    assert report.error is None, report.error
    warehouse = Warehouse(settings)
    uuid = "select phone_hash, email_hash from silver.stg_leads_parquet where lead_uuid = 'lead 0' order by 1"
    assert warehouse.rows(uuid) == [("p0", "e0"), ("p1", "e1")]
    assert told(caplog, "every lead_uuid should belong to one backend lead")


def told(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return any(what in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
