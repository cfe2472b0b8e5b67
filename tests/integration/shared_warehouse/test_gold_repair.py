"""The next run repairs gold tables that were modified externally, and writes only rows that change."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from loads import raise_interrupt
from oracle import assert_gold_equals_oracle
from random_snapshots import put_random_leads, random_day
from support import LONG, Bucket, Warehouse

from etl import step6_insert_into_gold_tables
from etl.engine.run_report import RunReport
from etl.warehouse import gold_models, row_versions

Run = Callable[..., RunReport]
KEYS = "select count(*) from pg_constraint where contype in ('p', 'f') and conrelid::regclass::text like 'gold.%%'"
"""Six primary keys, with that of data_anomalies, and five foreign keys, one of which is not checked."""
TABLES = ("gold.leads", "gold.lead_quality_current", "gold.appointments", "gold.lead_status_history")

MODIFICATIONS = [
    "delete from gold.lead_status_history where not is_current",
    "update gold.leads set city = 'Elsewhere'",
    "update gold.lead_quality_current set lead_quality_flag = 'High Quality'",
    "delete from gold.appointments",
    "update gold.appointments set appointment_date = appointment_date + interval '9 years'",
    "update gold.appointments set appointment_id = appointment_id + 1000; "
    "update gold.appointments set appointment_id = (select 1 + max(a.appointment_id) from gold.appointments as a) "
    "- appointment_id",
    "insert into gold.appointments (appointment_id, lead_uuid, appointment_date) "
    "select 1 + max(appointment_id), min(lead_uuid), '2020-01-01' from gold.appointments",
    "drop table gold.lead_quality_current cascade",
    "truncate gold.leads cascade",
    "drop table gold.lead_status_history cascade",
    "drop table gold.appointments",
    "drop table gold.leads cascade",
    "drop table gold.leads cascade; truncate gold.lead_quality_current",
    "alter table gold.lead_quality_matching drop constraint lead_quality_matching_pkey, "
    "drop constraint lead_quality_matching_lead_uuid_fkey; update gold.leads set city = 'Elsewhere'",
    "insert into gold.users (user_id) values (5); update gold.appointments set user_id = 5; "
    "drop table gold.users cascade",
    "update gold.appointments set status = 'x'; drop table silver.versioned_days",
    "delete from silver.row_contents; update gold.leads set city = 'Elsewhere'",
    "update silver.row_contents set dispo = 'x'",
    "drop table silver.row_contents cascade",
    "truncate silver.versioned_days",
    "delete from silver.version_matches where email_match; delete from partitions.lead_quality_matching_02",
    "drop table silver.matched_leads",
    "drop schema silver cascade",
    "drop schema staging cascade",
    # built by another version of the code
    "update meta.table_loads set code_version = 'x' where parent_table = 'silver.row_contents'",
    "update meta.table_loads set code_version = 'x' where parent_table = 'silver.version_matches'",
    "update meta.table_loads set code_version = 'x' where parent_table = 'gold.lead_status_history'",
]


ALONE = [(modification, False) for modification in MODIFICATIONS]
WITH_A_NEW_DAY = [(modification, True) for modification in MODIFICATIONS]
CASES = ALONE + WITH_A_NEW_DAY if LONG else ALONE[::2] + WITH_A_NEW_DAY[1::2]


@pytest.mark.parametrize(("modification", "with_new_day"), CASES)
def test_modified_gold_table_is_repaired(
    loaded_contents: dict[str, str],
    bucket: Bucket,
    run_pipeline: Run,
    warehouse: Warehouse,
    modification: str,
    with_new_day: bool,
) -> None:
    warehouse.rows(modification)
    if with_new_day:
        bucket.put_snapshot(6, random_day(random.Random("new")))
    assert run_pipeline().error is None
    assert_gold_equals_oracle(warehouse.rows)
    if not with_new_day:
        assert warehouse.contents() == loaded_contents
    assert warehouse.value(KEYS) == 11


def test_removed_leads_leave_gold_and_its_keys_stay(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded_contents
    before = warehouse.value("select count(*) from gold.leads")
    put_random_leads(bucket, random.Random("fewer"), count=6)
    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from gold.leads") < before
    assert_gold_equals_oracle(warehouse.rows)
    assert warehouse.value(KEYS) == 11


def test_reference_that_an_earlier_version_checked_is_only_declared(
    loaded_contents: dict[str, str], run_pipeline: Run, warehouse: Warehouse
) -> None:
    warehouse.rows(
        "alter table gold.lead_quality_matching drop constraint lead_quality_matching_lead_uuid_fkey, "
        "add foreign key (lead_uuid) references gold.leads; delete from meta.migrations where number = 5"
    )
    assert run_pipeline().error is None
    assert warehouse.rows(
        "select conenforced from pg_constraint "
        "where conrelid = 'gold.lead_quality_matching'::regclass and contype = 'f'"
    ) == [(False,)]
    assert warehouse.contents() == loaded_contents


def test_unchanged_rerun_writes_no_row(
    loaded_contents: dict[str, str], run_pipeline: Run, warehouse: Warehouse
) -> None:
    def written() -> list[tuple[Any, ...]]:
        return [row for table in TABLES for row in warehouse.rows(f"select t::text, xmin::text from {table} as t")]

    before = written()
    assert run_pipeline().error is None
    assert written() == before
    assert run_pipeline(full_refresh=True).error is None
    assert sorted(written()) == sorted(before)
    assert warehouse.contents() == loaded_contents


def test_new_day_writes_only_changed_rows(
    loaded_contents: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded_contents
    rows = (
        "select lead_uuid, xmin::text from gold.lead_status_history "
        "union all select lead_uuid, xmin::text from gold.appointments"
    )
    before = set(warehouse.rows(rows))
    last_day = bucket.get("SFTP/data_5.csv")
    bucket.put("SFTP/data_6.csv", last_day)
    assert run_pipeline().error is None
    assert set(warehouse.rows(rows)) == before
    assert warehouse.value("select max(last_seen)::text from gold.leads") == "2024-10-06"
    assert_gold_equals_oracle(warehouse.rows)


@pytest.mark.parametrize("step", ["apply_day", "build_models", "publish_gold"])
def test_run_killed_in_step_6_is_completed_by_the_next(
    loaded_contents: dict[str, str],
    bucket: Bucket,
    run_pipeline: Run,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    del loaded_contents
    before = warehouse.gold()
    for number in (6, 7):
        bucket.put_snapshot(number, random_day(random.Random(f"new {number}")))
    module = step6_insert_into_gold_tables if step == "publish_gold" else row_versions
    module = gold_models if step == "build_models" else module
    with monkeypatch.context() as patch:
        patch.setattr(module, step, raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline()
    assert warehouse.gold() == before
    assert run_pipeline().error is None
    assert_gold_equals_oracle(warehouse.rows)


@pytest.mark.usefixtures("loaded_contents")
def test_step_6_alone_names_tables_that_step_5_creates(run_pipeline: Run, warehouse: Warehouse) -> None:
    warehouse.rows("drop table gold.data_anomalies cascade; drop view gold.daily_metrics")
    refused = str(run_pipeline(only_step=6).error)
    assert "missing tables: gold.data_anomalies, gold.daily_metrics" in refused
    assert "python main.py --from-step 5" in refused
    assert run_pipeline(from_step=5).error is None
    assert warehouse.value("select count(*) > 0 from gold.daily_metrics") is True
