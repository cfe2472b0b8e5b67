"""sql_scripts/admin/remove_day.psql removes a day: as if its file had never been loaded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing

import loads
import psycopg2
import pytest
from support import PROJECT, Bucket, Warehouse, connection_arguments

from etl.engine.run_report import RunReport
from etl.local.postgres_cluster import server_account, server_programs
from etl.utils.errors import CheckFailedError
from etl.warehouse.run_history import RUN_LOCK

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")
WRONG_DAY = "2024-10-30"


def remove_day(warehouse: Warehouse, day: str | None) -> str:
    """Execute the script, with DAY unless `day` is None. Returns the error, or an empty string."""
    arguments = connection_arguments(warehouse.settings) | {"database": warehouse.settings.postgres_db}
    connection = {f"PG{name.upper()}": str(value) for name, value in arguments.items() if name != "dbname"}
    with (PROJECT / "sql_scripts" / "admin" / "remove_day.psql").open() as script:
        done = subprocess.run(
            [server_programs(server_account()) / "psql", "--no-psqlrc"],
            stdin=script,
            env=os.environ | connection | ({"DAY": day} if day else {}),
            capture_output=True,
            text=True,
        )
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("dropped", ["", "silver.stg_csv_data_30", "partitions.lead_quality_matching_30"])
def test_removed_day_leaves_no_trace(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, dropped: str) -> None:
    contents, gold = warehouse.contents(), warehouse.gold()
    rows = [*loads.rows_of_day(3, city="Reno"), {"LEADNUMBER": "no number"}]
    bucket.put_snapshot(30, rows)
    assert run_pipeline().error is None
    assert warehouse.gold() != gold
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_30.csv")
    if dropped:
        warehouse.rows(f"drop table {dropped}")
    assert remove_day(warehouse, WRONG_DAY) == ""
    report = run_pipeline()
    assert (report.error, report.warnings) == (None, [])
    assert (warehouse.contents(), warehouse.gold()) == (contents, gold)
    assert warehouse.rows("select table_name from meta.table_loads where table_name like '%_30'") == []
    assert "bronze and silver do not contain this day" in remove_day(warehouse, WRONG_DAY)
    assert "DAY is not set" in remove_day(warehouse, None)


@pytest.mark.usefixtures("loaded")
def test_day_that_the_load_ledger_lacks_stops_the_run_and_can_be_removed(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    gold = warehouse.gold()
    bucket.put_snapshot(30, loads.rows_of_day(3, city="Reno"))
    assert run_pipeline().error is None
    with_day = warehouse.gold()
    warehouse.rows('create table silver."Theirs_1" (like silver.stg_csv_snapshots)')
    attach = "alter table silver.stg_csv_snapshots attach partition silver.\"Theirs_1\" for values in ('2023-01-01')"
    warehouse.rows(attach)
    assert run_pipeline().error is None, "a partition of users is none of the pipeline's"
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_30.csv")
    warehouse.rows("drop schema meta cascade")
    report = run_pipeline()
    assert isinstance(report.error, CheckFailedError)
    assert "silver.stg_csv_data_30: not in the load ledger" in report.error.message
    assert warehouse.gold() == with_day
    assert remove_day(warehouse, WRONG_DAY) == ""
    assert "do not contain this day" in remove_day(warehouse, "2023-01-01")
    assert run_pipeline().error is None
    assert warehouse.gold() == gold


@pytest.mark.usefixtures("loaded")
def test_day_is_not_removed_while_a_run_is_in_progress(warehouse: Warehouse) -> None:
    contents = warehouse.contents()
    with closing(psycopg2.connect(**connection_arguments(warehouse.settings))) as run:
        run.cursor().execute("select pg_advisory_lock(%s)", (RUN_LOCK,))
        assert "a run is in progress" in remove_day(warehouse, "2024-10-03")
    assert warehouse.contents() == contents
