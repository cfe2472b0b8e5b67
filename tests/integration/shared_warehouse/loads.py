"""Days and leads to load, and the tables that a load has rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from support import Bucket, Warehouse, drop_schemas

from etl.engine.run_report import RunReport

Run = Callable[..., RunReport]

APPOINTMENT_IDS = "select lead_uuid, appointment_date, appointment_id from gold.appointments order by 1, 2"
GOLD_LEADS = "select * from gold.leads order by 1"
LEADS_AS_OF = "select * from gold.leads_as_of(%s) order by 1"
DAYS = {1: 5, 2: 6, 3: 7}
"""File number → rows in it."""


def rows_of_day(number: int, *, city: str = "Boise") -> list[dict[str, str]]:
    return [
        {"LEADNUMBER": str(lead), "email_hash": f"e{lead}", "phone_hash": f"p{lead}", "CITY": city}
        for lead in range(1, DAYS.get(number, 4) + 1)
    ]


def put_leads(bucket: Bucket, count: int = 4) -> None:
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(1, count + 1)])


def file_nodes(warehouse: Warehouse) -> dict[str, int]:
    """Return the file of each table: another one after a load, even with equal rows."""
    return dict(
        warehouse.rows(
            """
            select inhrelid::regclass::text, pg_relation_filenode(inhrelid)
            from pg_inherits
            where inhparent in (
                'bronze.csv_snapshots'::regclass,
                'silver.stg_csv_snapshots'::regclass,
                'gold.lead_quality_matching'::regclass
            )
            union all
            select name, pg_relation_filenode(name::regclass)
            from unnest(array['bronze.leads_parquet', 'silver.stg_leads_parquet']) as name
            """
        )
    )


def tables_of(layers: Iterable[str], numbers: Iterable[int]) -> set[str]:
    names = {
        "bronze": "partitions.csv_snapshots_{:02d}",
        "silver": "silver.stg_csv_data_{:02d}",
        "gold": "partitions.lead_quality_matching_{:02d}",
    }
    return {names[layer].format(number) for layer in layers for number in numbers}


LAYERS = ("bronze", "silver", "gold")
LEADS = {"bronze.leads_parquet", "silver.stg_leads_parquet"}


def rewritten(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {table for table in before | after if before.get(table) != after.get(table)}


def metrics(report: RunReport, step: int) -> dict[str, Any]:
    (result,) = (done.result for done in report.steps if done.step.number == step)
    return dict(result.metrics)


def assert_rebuild_gives_equal_tables(warehouse: Warehouse, run_pipeline: Run) -> list[tuple[Any, ...]]:
    """Compare with a full refresh, then with a load into an empty warehouse. Return the ids before the latter."""
    contents, ids = warehouse.contents(), warehouse.rows(APPOINTMENT_IDS)
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
    assert warehouse.rows(APPOINTMENT_IDS) == ids

    drop_schemas(warehouse.settings)
    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    return ids


def raise_interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
