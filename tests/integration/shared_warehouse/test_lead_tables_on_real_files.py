"""The tables of leads on the real files do not depend on the order of the days."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from loads import APPOINTMENT_IDS, GOLD_LEADS, LEADS_AS_OF, assert_rebuild_gives_equal_tables
from support import Bucket, Warehouse, drop_schemas

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings

Run = Callable[..., RunReport]


@pytest.fixture
def files(real_data: Path, bucket: Bucket, settings: Settings) -> list[Path]:
    """Upload the leads; return the snapshots in the order of their days."""
    bucket.clear()
    drop_schemas(settings)
    for parquet in (real_data / "parquet").glob("*.parquet"):
        bucket.put(f"parquet/{parquet.name}", parquet.read_bytes())
    return sorted((real_data / "SFTP").glob("*.csv"), key=lambda file: int(file.stem.removeprefix("data_")))


def appointment_ids(warehouse: Warehouse) -> dict[tuple[object, ...], int]:
    return {tuple(key): number for *key, number in warehouse.rows(APPOINTMENT_IDS)}


def corrected(file: Path) -> bytes:
    """Return the file without some rows, and with other rows sold after another appointment."""
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    for row in rows[3::40]:
        row |= {"Dispo": "Sale", "Set": "1", "Appt Date": "11/05/2024  9:30AM"}
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(row for number, row in enumerate(rows) if number % 50)
    return text.getvalue().encode()


def test_daily_loads_of_the_real_files_give_the_same_tables_as_one_load(
    files: list[Path], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    stood: dict[str, list[tuple[object, ...]]] = {}
    for file in files:
        bucket.put(f"SFTP/{file.name}", file.read_bytes())
        assert run_pipeline().error is None
        stood[warehouse.value("select max(last_seen)::text from gold.leads")] = warehouse.rows(GOLD_LEADS)
    assert len(stood) == 8
    for day, leads in stood.items():
        assert warehouse.rows(LEADS_AS_OF, day) == leads
    assert warehouse.rows(LEADS_AS_OF, "2024-10-08") == stood["2024-10-06"], "no file stands for the days between"
    ids = assert_rebuild_gives_equal_tables(warehouse, run_pipeline)
    assert warehouse.rows(APPOINTMENT_IDS) == ids


def test_real_files_in_random_order_give_the_same_tables_as_a_full_refresh(
    files: list[Path], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    rng = random.Random("any order")
    wrong = rng.choice(files[1:-1])
    uploads = [(file.name, file.read_bytes()) for file in rng.sample(files, len(files))]
    known: dict[tuple[object, ...], int] = {}
    for name, content in [*uploads, (wrong.name, corrected(wrong))]:
        bucket.put(f"SFTP/{name}", content)
        assert run_pipeline().error is None
        ids = appointment_ids(warehouse)
        assert [key for key in known.keys() & ids.keys() if known[key] != ids[key]] == [], "ids do not change"
        known |= ids
    assert_rebuild_gives_equal_tables(warehouse, run_pipeline)
