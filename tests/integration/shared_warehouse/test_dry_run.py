"""`--dry-run` lists what a run would do, as that run then does it, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import loads
import pytest
from pydantic import SecretStr
from support import Bucket, Warehouse, drop_schemas, environment_of, run_python

from etl.engine.dry_run import Plan, plan_run
from etl.engine.run_lock import run_lock
from etl.engine.run_report import RunReport
from etl.pipeline import choose_steps
from etl.utils.errors import CheckFailedError, DataRefusedError
from etl.utils.utils_connection import Settings
from etl.warehouse import gold_models, pending

Run = Callable[..., RunReport]
Planner = Callable[..., Plan]
LEADS = "leads"


@pytest.fixture(scope="module")
def reader(settings: Settings) -> Iterator[Settings]:
    """Yield settings of a role that may read what a dry run needs, and write nothing."""
    owner = Warehouse(settings)
    owner.rows("create role only_reads login password 'only-reads'")
    try:
        yield settings.model_copy(update={"postgres_user": "only_reads", "postgres_password": SecretStr("only-reads")})
    finally:
        drop_schemas(settings)
        owner.rows("drop role only_reads")


@pytest.fixture
def plan(reader: Settings, warehouse: Warehouse) -> Planner:
    """Plan a run as a role without rights to write, and check that nothing was written."""

    def plan_and_compare(from_step: int = 1, only_step: int | None = None, **options: Any) -> Plan:
        changed = {name: options.pop(name) for name in list(options) if name in Settings.model_fields}
        warehouse.rows(GRANT_READING)
        before = _state(warehouse)
        planned = plan_run(reader.model_copy(update=changed), choose_steps(from_step, only_step), **options)
        assert _state(warehouse) == before
        return planned

    return plan_and_compare


GRANT_READING = """
do $$
declare
    found name;
begin
    for found in
        select nspname from pg_namespace
        where nspname = any(array['bronze', 'silver', 'gold', 'meta', 'partitions', 'staging'])
    loop
        execute format('grant usage on schema %I to only_reads', found);
    end loop;
    if to_regclass('meta.table_loads') is not null then
        grant select on all tables in schema meta to only_reads;
        grant select on silver.rejected_rows to only_reads;
    end if;
end
$$
"""


def _state(warehouse: Warehouse) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
    """Return all tables and indexes with their files, and the contents of the tables."""
    files = warehouse.rows(
        """
        select pg_class.oid::regclass::text, relfilenode, relkind
        from pg_class
        where relnamespace::regnamespace::text = any(array['bronze', 'silver', 'gold', 'meta', 'partitions', 'staging'])
        order by 1
        """
    )
    tables = [table for table, _, kind in files if kind in ("r", "p")]
    return files, warehouse.fingerprints(table for table in tables if not table.startswith("partitions."))


def work_of(plan: Plan) -> dict[int, dict[str, str]]:
    """Return step → day or `leads` → why."""
    return {
        step.number: {str(day.date) if day else LEADS: why for day, why in work.items()}
        for step, work in plan.work.items()
        if work
    }


DAYS = [f"2024-10-0{number}" for number in loads.DAYS]


@pytest.mark.usefixtures("emptied")
def test_empty_database_loads_everything(plan: Planner, bucket: Bucket, run_pipeline: Run) -> None:
    for number in loads.DAYS:
        bucket.put_snapshot(number, loads.rows_of_day(number))
    loads.put_leads(bucket)
    planned = plan()
    assert {file.why for file in planned.source.files} == {"new file"}
    work = work_of(planned)
    assert {step: list(days) for step, days in work.items()} == {
        2: [*DAYS, LEADS], 3: [*DAYS, LEADS], 4: DAYS, 6: [*DAYS, LEADS],
    }  # fmt: skip
    assert planned.exit_code == 0
    with pytest.raises(CheckFailedError, match=r"missing tables: bronze\.csv_snapshots"):
        plan(from_step=3)
    assert run_pipeline().error is None
    assert work_of(plan()) == {}


@pytest.mark.usefixtures("loaded")
def test_new_changed_and_removed_files_are_planned_as_the_run_loads_them(
    plan: Planner, bucket: Bucket, run_pipeline: Run, settings: Settings
) -> None:
    with run_lock(settings):  # as while a run is active
        assert work_of(plan()) == {}
    bucket.put_snapshot(2, loads.rows_of_day(2, city="Reno"))
    bucket.put_snapshot(5, loads.rows_of_day(5))
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_1.csv")
    planned = plan()
    assert {file.source.key: file.why for file in planned.source.files} == {
        "SFTP/data_2.csv": "changed file",
        "SFTP/data_3.csv": None,
        "SFTP/data_5.csv": "new file",
        "parquet/leads.parquet": None,
    }
    assert planned.source.incomplete == ["no file for 2024-10-04 (file number 4)"]
    assert any("data_1.csv is no longer listed in S3: its rows are kept" in note for note in planned.notes)
    assert work_of(planned) == {
        2: {"2024-10-02": "changed file", "2024-10-05": "new file"},
        3: dict.fromkeys(("2024-10-02", "2024-10-05"), "loaded in step 2"),
        4: dict.fromkeys(("2024-10-02", "2024-10-05"), "cleaned in step 3"),
        6: dict.fromkeys(("2024-10-02", "2024-10-05"), "published in step 4"),
    }
    report = run_pipeline()
    assert loads.metrics(report, 2)["files"] == {"new": 1, "changed": 1, "skipped": 2, "refused": 0}
    assert loads.metrics(report, 6)["days"] == {"published": 2}


@pytest.mark.usefixtures("loaded")
def test_changed_leads_are_planned(plan: Planner, bucket: Bucket, run_pipeline: Run) -> None:
    loads.put_leads(bucket, 6)
    work = work_of(plan())
    assert work[2] == {LEADS: "changed file"}
    assert 4 not in work
    assert list(work[6]) == [LEADS]
    assert run_pipeline(only_step=2).error is None
    assert run_pipeline(only_step=3).error is None
    assert work_of(plan(from_step=6)) == {6: work[6]}


@pytest.mark.usefixtures("loaded")
def test_full_refresh_and_single_steps_are_planned(plan: Planner) -> None:
    work = work_of(plan(full_refresh=True))
    assert work[2] == dict.fromkeys([*DAYS, LEADS], "full refresh")
    assert work_of(plan(from_step=3, full_refresh=True))[3] == dict.fromkeys([*DAYS, LEADS], "full refresh")
    assert work_of(plan(only_step=6, full_refresh=True)) == {6: dict.fromkeys(DAYS, "full refresh")}
    assert work_of(plan(only_step=4, full_refresh=True)) == {}
    without_s3 = plan(from_step=3, aws_endpoint_url_s3="http://127.0.0.1:9")
    assert (without_s3.source.files, work_of(without_s3)) == ((), {})


@pytest.mark.usefixtures("loaded")
def test_external_changes_are_planned_as_they_are_repaired(
    plan: Planner, warehouse: Warehouse, run_pipeline: Run
) -> None:
    warehouse.rows("delete from partitions.csv_snapshots_01")
    warehouse.rows("update silver.stg_csv_data_02 set city = 'x'")
    warehouse.rows("drop table partitions.lead_quality_matching_03")
    work = work_of(plan())
    modified = "dropped or modified outside the pipeline"
    assert work[2] == {DAYS[0]: f"its table in bronze, or its rejected rows, were {modified}"}
    assert work[3] == {DAYS[0]: "loaded in step 2", DAYS[1]: f"not in silver, or {modified}"}
    assert work[6] == {**dict.fromkeys(DAYS[:2], "published in step 4"), DAYS[2]: f"not in gold, or {modified}"}
    report = run_pipeline()
    assert loads.metrics(report, 3)["days"] == {"cleaned": 2}
    assert loads.metrics(report, 6)["days"] == {"published": 3}

    warehouse.rows("drop table silver.stg_csv_data_02")
    assert list(work_of(plan(from_step=3))[3]) == [DAYS[1]]
    with pytest.raises(CheckFailedError, match=r"silver\.stg_csv_data_02: dropped, renamed or detached outside"):
        plan(only_step=6)
    assert run_pipeline().error is None

    warehouse.rows("delete from gold.appointments")
    assert list(work_of(plan())) == [6]
    warehouse.rows("delete from silver.version_matches")
    assert list(work_of(plan())[6]) == DAYS


@pytest.mark.usefixtures("loaded")
def test_changed_code_is_planned(plan: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pending, "cleaning_code_version", lambda: "other code")
        assert work_of(plan())[3] == dict.fromkeys([*DAYS, LEADS], "cleaning code has changed")
    monkeypatch.setattr(gold_models, "code_version", lambda table: f"another version of {table}")
    assert work_of(plan()) == {6: dict.fromkeys(DAYS, "SQL of gold has changed")}


@pytest.mark.usefixtures("loaded")
def test_day_that_waits_for_step_4_is_planned(plan: Planner, bucket: Bucket, run_pipeline: Run) -> None:
    bucket.put_snapshot(2, loads.rows_of_day(2, city="Reno"))
    assert run_pipeline(only_step=2).error is None
    assert run_pipeline(only_step=3).error is None
    assert work_of(plan()) == {4: {DAYS[1]: "cleaned by an earlier run"}, 6: {DAYS[1]: "published in step 4"}}
    assert work_of(plan(only_step=6)) == {}


@pytest.mark.usefixtures("loaded")
def test_file_refused_by_name_ends_the_dry_run_with_2(
    plan: Planner, bucket: Bucket, settings: Settings, tmp_path: Path
) -> None:
    bucket.put_snapshot(4, loads.rows_of_day(4))
    bucket.put("SFTP/data_04.csv", b"")
    bucket.put("SFTP/data_99999.csv", b"")
    planned = plan()
    assert planned.exit_code == 2
    assert ["data_04.csv" in str(refusal) for refusal in planned.source.refused] == [True, False]
    assert "is in the future" in planned.source.refused[1].message
    assert [step.number for step in planned.work] == [1, 2]
    assert any("--allow-partial" in note for note in planned.notes)
    assert not any("--allow-partial" in note for note in plan(only_step=2).notes)
    assert [step.number for step in plan(allow_partial=True).work] == [1, 2, 3, 4, 5, 6]

    done = run_python(tmp_path, "main.py", "--dry-run", environment=environment_of(settings))
    assert done.returncode == 2
    assert "0 new · 0 changed · 0 loaded again · 4 unchanged · 2 refused" in done.stdout
    assert "refused: s3://" in done.stdout
    assert "nothing was written" in done.stdout
    arguments = ("--dry-run", "--allow-partial", "--full-refresh", "--log-format", "json")
    done = run_python(tmp_path, "main.py", *arguments, environment=environment_of(settings))
    event = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, event["event"], event["exit_code"]) == (2, "dry_run", 2)
    assert {"step": 6, "title": "silver → gold", "day": DAYS[0], "why": "published in step 4"} in event["work"]
    assert len(event["refused"]) == 2


@pytest.mark.usefixtures("loaded")
def test_missing_and_late_days_are_listed_and_refused_by_setting(
    plan: Planner, bucket: Bucket, settings: Settings, tmp_path: Path
) -> None:
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_2.csv")
    planned = plan(max_days_late=1)
    assert planned.source.incomplete[0] == "no file for 2024-10-02 (file number 2)"
    assert "was expected by now (MAX_DAYS_LATE)" in planned.source.incomplete[1]
    assert planned.exit_code == 0
    assert plan(missing_days="refuse").exit_code == 2
    refusing = {**environment_of(settings), "MISSING_DAYS": "refuse"}
    printed = run_python(tmp_path, "main.py", "--dry-run", environment=refusing).stdout
    assert printed.count("no file for 2024-10-02") == 1
    with pytest.raises(DataRefusedError, match="PARTITION_START_DATE now makes it 2024-10-02") as refused:
        plan(partition_start_date=date(2024, 10, 2))
    assert "set PARTITION_START_DATE to 2024-10-01, as before" in str(refused.value.hint)


@pytest.mark.usefixtures("loaded")
def test_column_that_step_1_would_add_is_noted(plan: Planner, warehouse: Warehouse) -> None:
    warehouse.rows("alter table bronze.csv_snapshots drop column location cascade")
    added = "bronze.csv_snapshots: column location would be added, and all days of the table loaded again"
    assert plan().notes == [added]
    assert plan(from_step=2).notes == []


@pytest.mark.usefixtures("loaded")
def test_ledger_of_an_earlier_version_is_named(plan: Planner, warehouse: Warehouse) -> None:
    warehouse.rows("delete from meta.migrations where number = 4")
    assert "schema meta: migration 0004_accepted_changes would be applied" in plan().notes
    warehouse.rows("delete from meta.migrations where number >= 2")
    with pytest.raises(CheckFailedError, match="0002_code_version, 0003_row_versions"):
        plan()
