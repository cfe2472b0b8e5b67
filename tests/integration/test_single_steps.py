"""Steps exchange data through tables: silver is rebuilt from bronze without S3, and gold from silver alone."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg2
import pytest
from support import ORDINARY_ROW, PROJECT, Bucket, Warehouse, drop_schemas, empty_warehouse, environment_of

from etl import step6_insert_into_gold_tables as step6
from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS, choose_steps
from etl.step2_load_to_postgres import publish_bronze
from etl.step4_data_types_postgres import publish_silver
from etl.utils.errors import LockHeldError, PipelineError, PostgresError
from etl.utils.utils_connection import Settings
from etl.warehouse import gold_models
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]

MODULES = (
    "etl.step1_postgres_data_definition",
    "etl.step2_load_to_postgres",
    "etl.step3_partition_and_load_all_csv",
    "etl.step4_data_types_postgres",
    "etl.step5_create_gold_tables",
    "etl.step6_insert_into_gold_tables",
)


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse for all tests, and files of three days with valid, rejected and separator rows."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        bucket = Bucket(settings)
        ordinary = [{"LEADNUMBER": str(number), "email_hash": f"e{number}"} for number in range(1, 9)]
        bucket.put_snapshot(1, ordinary)
        bucket.put_snapshot(2, [dict.fromkeys(ORDINARY_ROW, "-----"), *ordinary, {"LEADNUMBER": "no number"}])
        bucket.put_snapshot(3, [*ordinary, {"Dispo": "one field, too many"}])
        bucket.put_leads([(f"lead {number}", f"p{number % 3}", f"E{number} ") for number in range(6)])
        yield settings


@pytest.fixture(scope="module")
def complete(settings: Settings) -> dict[str, str]:
    """Return the contents of all tables after a complete run."""
    assert run_steps(settings, STEPS).error is None
    warehouse = Warehouse(settings)
    assert [rows for (rows,) in warehouse.rows("select count(*) from silver.rejected_rows group by step")] == [1, 1]
    contents = warehouse.contents()
    assert contents["gold.lead_quality_matching"] != "0:0"
    return contents


@pytest.fixture
def before(complete: dict[str, str], settings: Settings, run_pipeline: Run, warehouse: Warehouse) -> dict[str, str]:
    """Return the contents of all tables, after repairing the changes of the previous test."""
    if not is_complete(warehouse, complete):
        run_pipeline()
    if not is_complete(warehouse, complete):
        drop_schemas(settings)
        run_pipeline()
        assert warehouse.contents() == complete
    return complete


def is_complete(warehouse: Warehouse, complete: dict[str, str]) -> bool:
    try:
        return warehouse.contents() == complete
    except psycopg2.Error:  # a table is missing
        return False


@pytest.fixture
def run_without_s3(settings: Settings) -> Iterator[Callable[..., None]]:
    """Run steps as separate runs, with an S3 endpoint that does not exist."""
    without_s3 = settings.model_copy(update={"aws_endpoint_url_s3": "http://127.0.0.1:9"})

    def run(*numbers: int, **options: bool) -> None:
        for number in numbers:
            report = run_steps(without_s3, choose_steps(only_step=number), **options)
            assert report.error is None

    yield run
    close_connections()


# --- Silver from bronze -----------------------------------------------------------------------------------------------

LOSSES_OF_SILVER = {
    "all days truncated": "truncate silver.stg_csv_snapshots",
    "all days deleted": "delete from silver.stg_csv_snapshots",
    "one day truncated": "truncate silver.stg_csv_data_02",
    "one day deleted": "delete from silver.stg_csv_snapshots where _partition_date = '2024-10-02'",
    "one day dropped": "drop table silver.stg_csv_data_03",
    "one day detached": "alter table silver.stg_csv_snapshots detach partition silver.stg_csv_data_03; "
    "drop table silver.stg_csv_data_03",
    "one day truncated and filled outside the pipeline": "truncate silver.stg_csv_data_02; "
    "insert into silver.stg_csv_data_02 (lead_number, _partition_date) values (1, '2024-10-02')",
    "leads truncated": "truncate silver.stg_leads_parquet",
    "leads deleted": "delete from silver.stg_leads_parquet",
    "days and leads deleted": "delete from silver.stg_csv_snapshots; delete from silver.stg_leads_parquet",
}


@pytest.mark.parametrize("loss", LOSSES_OF_SILVER.values(), ids=LOSSES_OF_SILVER)
def test_steps_3_and_4_restore_lost_rows_of_silver(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse, loss: str
) -> None:
    warehouse.rows(loss)
    assert warehouse.contents() != before
    run_without_s3(3, 4)
    assert warehouse.contents() == before


def test_steps_1_3_and_4_restore_a_dropped_silver_table_with_its_days(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("drop table silver.stg_csv_snapshots cascade")
    run_without_s3(1, 3, 4)
    assert warehouse.contents() == before
    days = warehouse.rows("select distinct tableoid::regclass::text from silver.stg_csv_snapshots order by 1")
    assert days == [(f"silver.stg_csv_data_0{number}",) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "damage",
    [
        "delete from silver.stg_csv_snapshots where lead_number = 3",
        "insert into silver.stg_csv_snapshots select * from silver.stg_csv_snapshots",
        "update silver.stg_csv_snapshots set city = 'Elsewhere'",
        "delete from silver.stg_leads_parquet where lead_uuid = 'lead 3'",
        "delete from silver.rejected_rows where step = 3",
        "truncate silver.stg_csv_snapshots, silver.stg_leads_parquet",
        "delete from silver.stg_csv_snapshots",
    ],
)
def test_full_refresh_of_steps_3_and_4_repairs_any_damage(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse, damage: str
) -> None:
    warehouse.rows(damage)
    assert warehouse.contents() != before
    run_without_s3(3, 4, full_refresh=True)
    assert warehouse.contents() == before


def test_steps_3_to_6_restore_silver_and_gold(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("truncate silver.stg_csv_snapshots, silver.stg_leads_parquet")
    warehouse.rows("drop table gold.lead_quality_matching cascade")
    run_without_s3(3, 4, 5, 6)
    assert warehouse.contents() == before


@pytest.mark.parametrize("full_refresh", [False, True], ids=["plain", "full refresh"])
def test_step_3_without_bronze_rows_keeps_silver(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse, full_refresh: bool
) -> None:
    warehouse.rows("truncate bronze.csv_snapshots; delete from bronze.leads_parquet")
    run_without_s3(3, 4, full_refresh=full_refresh)
    assert without_bronze(warehouse.contents()) == without_bronze(before)


# --- Gold from silver -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("emptying", "full_refresh"),
    [
        ("truncate bronze.csv_snapshots, bronze.leads_parquet", False),
        ("delete from bronze.csv_snapshots; delete from bronze.leads_parquet", False),
        ("drop schema bronze cascade; create schema bronze", False),
        ("truncate bronze.csv_snapshots, bronze.leads_parquet", True),
    ],
    ids=["truncated", "deleted", "dropped", "full refresh"],
)
def test_steps_5_and_6_rebuild_gold_from_silver_alone(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse, emptying: str, full_refresh: bool
) -> None:
    warehouse.rows(emptying)
    warehouse.rows("drop schema gold cascade; create schema gold")
    run_without_s3(5, 6, full_refresh=full_refresh)
    assert warehouse.fingerprint("gold.lead_quality_matching") == before["gold.lead_quality_matching"]
    assert warehouse.fingerprint("silver.stg_csv_snapshots") == before["silver.stg_csv_snapshots"]
    assert warehouse.value("select sum(row_count) from gold.match_scenarios") > 0, "the views exist, too"


def test_steps_5_and_6_rebuild_a_dropped_schema_of_gold(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse
) -> None:
    warehouse.rows("truncate bronze.csv_snapshots, bronze.leads_parquet; drop schema gold cascade")
    run_without_s3(5, 6)
    assert without_bronze(warehouse.contents()) == without_bronze(before)


@pytest.mark.parametrize(
    "loss",
    [
        "truncate gold.lead_quality_matching",
        "delete from gold.lead_quality_matching",
        "delete from gold.lead_quality_matching where _partition_date = '2024-10-02'",
        "drop table partitions.lead_quality_matching_02",
        "drop schema partitions cascade; create schema partitions",
    ],
)
def test_step_6_restores_lost_rows_of_gold(
    before: dict[str, str], run_without_s3: Run, warehouse: Warehouse, loss: str
) -> None:
    warehouse.rows(loss)
    assert warehouse.fingerprint("gold.lead_quality_matching") != before["gold.lead_quality_matching"]
    run_without_s3(6)
    assert warehouse.fingerprint("gold.lead_quality_matching") == before["gold.lead_quality_matching"]


def without_bronze(contents: dict[str, str]) -> dict[str, str]:
    return {table: content for table, content in contents.items() if not table.startswith("bronze.")}


# --- Each step as a process -------------------------------------------------------------------------------------------


def test_each_step_runs_as_a_module_and_only_step_2_needs_s3(
    complete: dict[str, str],
    python: Callable[..., subprocess.CompletedProcess[str]],
    settings: Settings,
    warehouse: Warehouse,
) -> None:
    drop_schemas(settings)
    environment = environment_of(settings)
    for step, module in zip(STEPS, MODULES, strict=True):
        if step.number == 6:
            assert warehouse.value("select last_complete_run from gold.data_freshness") is None
        s3 = {} if step.number == 2 else {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
        process = python("-m", module, environment=environment | s3)
        assert process.returncode == 0, process.stderr
        assert step.title in process.stdout
    assert warehouse.contents() == complete
    steps = warehouse.rows("select arguments -> 'steps' from meta.pipeline_runs order by started_at")
    assert steps == [([number],) for number in range(1, 7)]
    query = "select last_complete_run = (select max(ended_at) from meta.pipeline_runs) from gold.data_freshness"
    assert warehouse.value(query)


@pytest.mark.usefixtures("before")
def test_run_that_has_ended_keeps_the_staging_tables_of_the_next(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows("create table staging.csv_snapshots_09 ()")
    with pytest.raises(LockHeldError):
        publish_bronze(settings, str(uuid.uuid4()), [])
    assert warehouse.rows("select to_regclass('staging.csv_snapshots_09') is not null") == [(True,)]


WRITERS: dict[str, Callable[[Settings, str], object]] = {
    "publish_silver": publish_silver,
    "prepare": lambda settings, run_id: step6.prepare(settings, run_id, full_refresh=False),
    "build_models": gold_models.build_models,
    "publish_gold": lambda settings, run_id: step6.publish_gold(settings, run_id, [], [], with_models=False),
}


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_run_that_has_ended_publishes_nothing(
    settings: Settings, warehouse: Warehouse, write: Callable[[Settings, str], object]
) -> None:
    contents = warehouse.contents()
    with pytest.raises(LockHeldError):
        write(settings, str(uuid.uuid4()))
    assert warehouse.contents() == contents


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("error", [PipelineError("of the step"), ValueError("of the code")])
def test_first_error_is_kept_if_the_run_cannot_be_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    def lose_the_server(*_: object, **__: object) -> None:
        raise PostgresError("cannot be reached")

    monkeypatch.setattr("etl.engine.runner.end_run", lose_the_server)
    if isinstance(error, PipelineError):
        monkeypatch.setattr("etl.engine.runner._executor", fail)
        assert run_steps(settings, STEPS).error is error
    else:
        with pytest.raises(ValueError, match="of the code"):
            run_steps(settings, [replace(STEPS[0], run=fail)])


@pytest.mark.usefixtures("before")
def test_server_that_was_lost_during_the_run_is_not_awaited_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, attempts = PostgresError("cannot be reached", transient=True), []

    def lose_the_server(*_: object, **__: object) -> None:
        attempts.append(lost)
        raise lost

    monkeypatch.setattr("etl.engine.runner._executor", lose_the_server)
    monkeypatch.setattr("etl.engine.runner.end_run", lose_the_server)
    assert run_steps(settings, STEPS).error is lost
    assert len(attempts) == 2, "the run failed, and was closed"


@pytest.mark.usefixtures("before")
def test_step_with_an_argument_is_not_run(settings: Settings, warehouse: Warehouse) -> None:
    runs = warehouse.rows("select count(*) from meta.pipeline_runs")
    command = [sys.executable, "-m", MODULES[0], "--help"]
    done = subprocess.run(command, cwd=PROJECT, env=environment_of(settings), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "unexpected argument --help\n  → for options, use python main.py --only-step 1" in done.stderr
    assert warehouse.rows("select count(*) from meta.pipeline_runs") == runs
