"""The dbt project of integrations/dbt, with dbt, dbt-postgres and MetricFlow."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PROJECT, Warehouse

from etl.engine.runner import run_steps
from etl.local.postgres_cluster import server_programs
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings

pytestmark = pytest.mark.integrations

PASSWORD = "dbt's \\ password"
VIEWS = ("lead_funnel", "daily_quality", "calendar")
DAYS_OF_THE_SAMPLE = {"days_late", "open_anomalies"}
"""Columns of gold.data_freshness of which dbt warns: the sample is of 2024, and its flag `set` breaks."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, as dbt writes into it."""
    ignored = shutil.ignore_patterns("target", "logs")
    return shutil.copytree(PROJECT / "integrations" / "dbt", tmp_path_factory.mktemp("dbt") / "project", ignore=ignored)


@pytest.fixture(scope="module")
def run(settings: Settings, reader_environment: dict[str, str], tool: dict[str, Path], project: Path) -> Run:
    """Return a function that runs `dbt` or `mf` as role dbt, which a script has created."""
    environment = reader_environment | {
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_DB": settings.postgres_db,
        "DBT_ENV_SECRET_PASSWORD": PASSWORD,
        "NO_COLOR": "1",
    }
    owner = {"PGUSER": settings.postgres_user, "PGPASSWORD": settings.postgres_password.get_secret_value()}
    script = PROJECT / "sql_scripts" / "admin" / "create_dbt_role.psql"
    for _ in range(2):  # it can be rerun
        psql = [server_programs(None) / "psql", "--no-psqlrc", "--file", script]
        subprocess.run(psql, env=environment | owner, capture_output=True, check=True)

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool["dbt"] / program, *arguments], cwd=project, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture(scope="module")
def built(run: Run) -> subprocess.CompletedProcess[str]:
    return run("dbt", "build")


def statuses(project: Path) -> dict[str, str]:
    """Return the status of each model and test of the last command."""
    results = json.loads((project / "target" / "run_results.json").read_text())["results"]
    return {result["unique_id"]: result["status"] for result in results}


def metrics(run: Run, project: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return the rows of a query of MetricFlow."""
    done = run("mf", "query", "--csv", "result.csv", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    with (project / "result.csv").open() as file:
        return list(csv.DictReader(file))


def test_build_passes_and_warns_of_the_days_of_the_sample(
    built: subprocess.CompletedProcess[str], project: Path
) -> None:
    assert built.returncode == 0, built.stdout
    found = statuses(project)
    assert set(found.values()) == {"success", "pass", "warn"}
    warned = [name for name, status in found.items() if status == "warn"]
    assert len(warned) == len(DAYS_OF_THE_SAMPLE)
    assert all(any(f"_data_freshness_{column}_" in name for name in warned) for column in DAYS_OF_THE_SAMPLE)


def test_wrong_value_in_gold_fails_the_tests_of_the_source(run: Run, warehouse: Warehouse) -> None:
    warehouse.rows("update gold.lead_quality_current set set = 2 where lead_number = 1 or set = 1")
    try:
        assert run("dbt", "test", "--select", "source:gold.lead_quality_current").returncode == 1
    finally:
        warehouse.rows("update gold.lead_quality_current set set = 1 where set = 2")


def test_source_is_fresh_until_runs_are_missing(run: Run, project: Path, warehouse: Warehouse) -> None:
    assert run("dbt", "source", "freshness").returncode == 0
    change = "update meta.pipeline_runs set ended_at = ended_at {} interval '60 hours'"
    warehouse.rows(change.format("-"))
    try:
        assert run("dbt", "source", "freshness").returncode == 1
        (result,) = json.loads((project / "target" / "sources.json").read_text())["results"]
        assert result["status"] == "error"
    finally:
        warehouse.rows(change.format("+"))


@pytest.mark.usefixtures("built")
def test_metrics_are_the_figures_of_gold(run: Run, project: Path, reader: Warehouse) -> None:
    names = "appointment_rate,demo_rate,conversion_rate"
    found = metrics(run, project, "--metrics", names, "--group-by", "lead__state", "--order", "lead__state")
    expected = reader.rows(
        "select coalesce(state, ''), appointment_rate, demo_rate, conversion_rate from gold.conversion_funnel_per_state"
    )
    assert {row["lead__state"]: pytest.approx([float(row[name]) for name in names.split(",")]) for row in found} == {
        state: rates for state, *rates in expected
    }

    found = metrics(run, project, "--metrics", "new_leads,high_quality_share", "--group-by", "metric_time")
    new = reader.rows("select _partition_date::text, new_leads from gold.leads_per_day where new_leads > 0")
    assert {row["metric_time__day"][:10]: int(float(row["new_leads"])) for row in found} == dict(new)
    shares = reader.rows(
        "select _partition_date::text, high_quality_count / lead_count::float from dbt.daily_quality where is_sound"
    )
    assert 0 < len(shares) < len(new)
    sound = [row for row in found if row["high_quality_share"]]
    assert {row["metric_time__day"][:10]: float(row["high_quality_share"]) for row in sound} == (
        pytest.approx(dict(shares))
    )


@pytest.mark.usefixtures("built")
def test_views_are_kept_by_runs_of_the_pipeline(run: Run, settings: Settings, reader: Warehouse, project: Path) -> None:
    oids = [reader.value("select to_regclass(%s)::oid", f"dbt.{view}") for view in VIEWS]
    assert None not in oids
    counts = [reader.value(f"select count(*) from dbt.{view}") for view in VIEWS]
    assert all(counts)
    for full_refresh in (False, True):
        assert run_steps(settings, STEPS, full_refresh=full_refresh).error is None
        assert [reader.value("select to_regclass(%s)::oid", f"dbt.{view}") for view in VIEWS] == oids
        assert [reader.value(f"select count(*) from dbt.{view}") for view in VIEWS] == counts
    assert run("dbt", "build").returncode == 0
    assert "fail" not in statuses(project).values()


@pytest.mark.usefixtures("built")
def test_bi_reader_reads_views_and_their_comments(reader: Warehouse) -> None:
    assert [reader.value(f"select count(*) > 0 from dbt.{view}") for view in VIEWS] == [True] * len(VIEWS)
    comment = reader.value("select obj_description('dbt.daily_quality'::regclass)")
    assert comment.startswith("High-quality leads per snapshot")
