"""`gold.leads_as_of(day)` returns the table `gold.leads` of a warehouse that was loaded only up to that day."""

from __future__ import annotations

import random
from collections.abc import Callable

import psycopg2
import pytest
from loads import GOLD_LEADS, LEADS_AS_OF
from pydantic import SecretStr
from random_snapshots import put_random_leads, steady_days
from support import Bucket, Warehouse

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings

Run = Callable[..., RunReport]
Rows = list[tuple[object, ...]]
DAYS = (2, 3, 4, 6, 7)
"""Numbers of the files: days 1 and 5 are missing."""


@pytest.fixture
def leads_per_day(emptied: None, bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> dict[str, Rows]:
    """Load random days one by one; return gold.leads after each, and before the first with NULLs."""
    del emptied
    rng = random.Random("as of")
    put_random_leads(bucket, rng)
    stood: dict[str, Rows] = {}
    for number, rows in zip(DAYS, steady_days(rng, len(DAYS)), strict=True):
        bucket.put_snapshot(number, rows)
        assert run_pipeline().error is None
        stood[f"2024-10-{number:02}"] = warehouse.rows(GOLD_LEADS)
    columns = len(stood["2024-10-02"][0])
    return stood | {"2024-10-01": [(lead, *[None] * (columns - 1)) for lead, *_ in stood["2024-10-02"]]}


def test_leads_as_of_equal_those_of_a_warehouse_loaded_up_to_the_day(
    leads_per_day: dict[str, Rows], settings: Settings, warehouse: Warehouse, run_pipeline: Run
) -> None:
    expected = leads_per_day | {"2024-10-05": leads_per_day["2024-10-04"], "2025-01-01": leads_per_day["2024-10-07"]}
    assert len({str(rows) for rows in leads_per_day.values()}) == len(DAYS) + 1, "each day differs"
    for day, leads in expected.items():
        assert warehouse.rows(LEADS_AS_OF, day) == leads, day

    warehouse.rows("drop function gold.leads_as_of")
    assert run_pipeline().error is None, "the function is created again, and BI tools can call it"
    warehouse.rows("alter role bi_reader login password 'as-of'")
    reader = settings.model_copy(update={"postgres_user": "bi_reader", "postgres_password": SecretStr("as-of")})
    assert Warehouse(reader).rows(LEADS_AS_OF, "2024-10-04") == leads_per_day["2024-10-04"]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        Warehouse(reader).rows("drop function gold.leads_as_of")
    warehouse.rows("alter role bi_reader nologin password null")
