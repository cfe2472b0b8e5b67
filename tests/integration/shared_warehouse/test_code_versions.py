"""A change of the cleaning code or of a gold model rebuilds only what depends on it."""

from __future__ import annotations

from collections.abc import Callable

import loads
import pytest
from support import Warehouse

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse import anomalies, gold_models, pending, sql_scripts
from etl.warehouse.sql_scripts import SQL_SCRIPTS

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")


CODE_VERSIONS = "select distinct code_version from meta.table_loads where table_name like 'silver.stg%'"
LOADS_OF_BRONZE = "select table_name, load_id from meta.table_loads where parent_table like 'bronze.%' order by 1"


def change_cleaning_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "cleaning_code_version", lambda: "other code")


@pytest.mark.usefixtures("loaded")
def test_changed_cleaning_code_cleans_all_days_and_loads_nothing_into_bronze(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, nodes, bronze = warehouse.contents(), loads.file_nodes(warehouse), warehouse.rows(LOADS_OF_BRONZE)
    change_cleaning_code(monkeypatch)
    report = run_pipeline()
    assert report.error is None
    assert loads.metrics(report, 3)["days"]["cleaned"] == len(loads.DAYS)
    rewritten_tables = loads.rewritten(nodes, loads.file_nodes(warehouse))
    assert rewritten_tables >= loads.tables_of(["silver"], loads.DAYS) | {"silver.stg_leads_parquet"}
    assert not rewritten_tables & (loads.tables_of(["bronze"], loads.DAYS) | {"bronze.leads_parquet"})
    assert warehouse.rows(LOADS_OF_BRONZE) == bronze
    assert warehouse.contents() == contents
    assert warehouse.rows(CODE_VERSIONS) == [("other code",)]

    nodes = loads.file_nodes(warehouse)
    assert run_pipeline().error is None
    assert loads.rewritten(nodes, loads.file_nodes(warehouse)) == set()


@pytest.mark.usefixtures("loaded")
def test_silver_without_a_code_version_is_cleaned_again(warehouse: Warehouse, settings: Settings) -> None:
    assert warehouse.rows(CODE_VERSIONS) == [(pending.cleaning_code_version(),)]
    warehouse.rows(
        "update meta.table_loads set code_version = null; update silver.stg_csv_snapshots set _row_hash = null"
    )
    warehouse.rows("update meta.table_loads set changed = false")
    without_s3 = settings.model_copy(update={"aws_endpoint_url_s3": "http://127.0.0.1:9"})
    assert run_steps(without_s3, choose_steps(from_step=3)).error is None
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where _row_hash is null") == 0
    assert warehouse.rows(CODE_VERSIONS) == [(pending.cleaning_code_version(),)]


@pytest.mark.usefixtures("loaded")
def test_staged_days_of_another_code_version_are_cleaned_again(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        change_cleaning_code(patched)
        assert run_pipeline(only_step=3).error is None
    assert warehouse.staging_tables() != []
    assert run_pipeline().error is None
    assert warehouse.staging_tables() == []
    assert warehouse.rows(CODE_VERSIONS) == [(pending.cleaning_code_version(),)]


@pytest.mark.usefixtures("loaded")
def test_gold_days_of_an_earlier_code_version_are_rebuilt(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = warehouse.contents()
    monkeypatch.setattr(gold_models, "code_version", lambda table: f"another version of {table}")
    assert loads.metrics(run_pipeline(), 6)["days"] == {"published": len(loads.DAYS)}
    assert loads.metrics(run_pipeline(), 6)["days"] == {"published": 0}
    assert warehouse.contents() == contents


FILLS_GOLD = [
    str(path.relative_to(SQL_SCRIPTS))
    for path in sorted((SQL_SCRIPTS / "gold").rglob("*.sql"))
    if not path.name.startswith("create_")
]


@pytest.mark.parametrize("script", FILLS_GOLD)
def test_changed_script_that_fills_gold_changes_a_code_version(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, read_script = ("gold.leads", "gold.lead_quality_matching"), sql_scripts.read_script
    monkeypatch.setattr(gold_models, "scripts_digest", sql_scripts.scripts_digest.__wrapped__)  # without its cache
    before = {table: gold_models.code_version(table) for table in tables}
    monkeypatch.setattr(sql_scripts, "read_script", lambda name: read_script(name) + "-- changed" * (name == script))
    changed = {table for table in tables if gold_models.code_version(table) != before[table]}
    of_days = {"gold/insert_into_gold_tables.sql", "gold/models/lead_quality_matching.sql", gold_models.GRADE}
    assert ("gold.lead_quality_matching" in changed) == (script in of_days)
    assert ("gold.leads" in changed) == (script not in of_days or script == gold_models.GRADE)


@pytest.mark.usefixtures("loaded")
def test_changed_view_of_metrics_rebuilds_the_anomalies(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select load_id from meta.table_loads where table_name = 'gold.data_anomalies'"
    read_script, load = sql_scripts.read_script, warehouse.value(query)

    def read_changed_script(script: str) -> str:
        return read_script(script) + "-- changed\n" * (script == "gold/create_observability.sql")

    monkeypatch.setattr(sql_scripts, "read_script", read_changed_script)
    monkeypatch.setattr(anomalies, "scripts_digest", sql_scripts.scripts_digest.__wrapped__)  # without its cache
    assert run_pipeline().error is None
    rebuilt = warehouse.value(query)
    assert rebuilt > load
    assert run_pipeline().error is None
    assert warehouse.value(query) == rebuilt
