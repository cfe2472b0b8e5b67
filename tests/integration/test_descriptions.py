"""The file of descriptions and the warehouse agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Warehouse, empty_warehouse

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings
from etl.warehouse.descriptions import description_of, read_descriptions


@pytest.fixture(scope="module")
def warehouse(postgres_server: Settings, s3_endpoint: str) -> Iterator[Warehouse]:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        assert run_steps(settings, [STEPS[0], STEPS[4]]).error is None
        yield Warehouse(settings)


def test_descriptions_name_only_what_exists(warehouse: Warehouse) -> None:
    existing = {
        (schema, table, column)
        for schema, table, column in warehouse.rows(
            "select table_schema, table_name, column_name from information_schema.columns"
        )
    }
    described = {
        (schema, table, column)
        for schema, tables in read_descriptions().items()
        if schema != "columns"
        for table, columns in tables.items()
        for column in columns
        if column != "description"
    }
    assert described <= existing
    assert set(read_descriptions()["columns"]) <= {column for _, _, column in existing}


def test_changed_comment_is_restored(warehouse: Warehouse) -> None:
    warehouse.rows("comment on column gold.leads.city is 'wrong'; comment on view gold.match_scenarios is null")
    assert run_steps(warehouse.settings, [STEPS[4]]).error is None
    comments = warehouse.rows(
        "select col_description(attrelid, attnum), obj_description('gold.match_scenarios'::regclass) "
        "from pg_attribute where attrelid = 'gold.leads'::regclass and attname = 'city'"
    )
    assert comments == [(description_of("gold", "leads", "city"), description_of("gold", "match_scenarios"))]


def test_column_comment_is_that_of_its_table_before_the_shared_one() -> None:
    shared = read_descriptions()["columns"]["lead_uuid"]
    assert description_of("gold", "leads", "lead_uuid") == shared
    assert description_of("gold", "unmatched_snapshot_rows", "lead_uuid") == "NULL in every row."
    assert description_of("gold", "leads", "unknown") is None
    assert description_of("silver", "stg_csv_data_01") is None
