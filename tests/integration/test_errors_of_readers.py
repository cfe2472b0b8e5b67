"""Errors while the report or a notebook reads gold, and while the report is written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from support import Bucket, Warehouse, connection_arguments, empty_warehouse, environment_of

from etl.engine.run_report import RunReport
from etl.reporting.analysis import analyse_gold
from etl.reporting.reading import reading
from etl.reporting.report import write_report
from etl.utils.errors import OutputError, PostgresError
from etl.utils.utils_connection import Settings

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


@pytest.fixture(autouse=True)
def gold(bucket: Bucket, run_pipeline: Callable[..., RunReport]) -> None:
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run_pipeline().error is None


def assert_explained(error: PostgresError, settings: Settings, hint: str) -> None:
    assert settings.postgres_address in error.message
    assert "select" not in error.message.lower(), "the statement is not shown"
    assert hint in str(error.hint)


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "drop view gold.match_scenarios",
        "drop view gold.suspect_hashes cascade",
        "drop view gold.match_scenarios; create view gold.match_scenarios as select 1 as scenario_count",
    ],
    ids=["dropped", "dropped with what depends on it", "other columns"],
)
def test_view_that_is_missing_or_differs_is_explained(settings: Settings, warehouse: Warehouse, statement: str) -> None:
    warehouse.rows(statement)
    with pytest.raises(PostgresError) as raised, reading(settings) as read:
        analyse_gold(read)
    assert_explained(raised.value, settings, "--from-step 1")
    warehouse.rows("drop view if exists gold.match_scenarios cascade")


def test_reader_that_is_cancelled_is_explained(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "etl.reporting.reading.read_script",
        lambda _name: "select set_config('statement_timeout', '20ms', true), pg_sleep(0); select pg_sleep(5)",
    )
    with pytest.raises(PostgresError) as raised, reading(settings) as read:
        read("match_scenarios")
    assert_explained(raised.value, settings, "statement_timeout")


def test_reader_that_loses_its_connection_is_explained(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "etl.reporting.reading.read_script", lambda _name: "select pg_terminate_backend(pg_backend_pid())"
    )
    with pytest.raises(PostgresError) as raised, reading(settings) as read:
        read("match_scenarios")
    assert settings.postgres_address in raised.value.message
    assert raised.value.transient


def test_report_names_a_missing_view(python: Python, settings: Settings, warehouse: Warehouse) -> None:
    warehouse.rows("drop view gold.leads_per_day cascade")
    done = python("main.py", "--report", environment=environment_of(settings))
    assert done.returncode == 1
    assert 'relation "gold.leads_per_day" does not exist' in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


# --- Writing ----------------------------------------------------------------------------------------------------------


def file_in_the_way(folder: Path) -> None:
    (folder / "reports").write_text("")


def folder_in_the_way(folder: Path) -> None:
    (folder / "reports" / "lead_quality.html").mkdir(parents=True)
    (folder / "reports" / "lead_quality.html" / "kept").write_text("")


def dead_link(folder: Path) -> None:
    (folder / "reports").symlink_to("/nonexistent/reports")


def without_permission(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "reports").mkdir()
    (folder / "reports").chmod(0o500)


def full_disk(folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / ".lead_quality.html.draft").symlink_to("/dev/full")


def read_only_file_system(folder: Path) -> None:
    (folder / "reports").symlink_to("/proc/self")


OBSTACLES = [file_in_the_way, folder_in_the_way, dead_link, without_permission, full_disk, read_only_file_system]


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.__name__)
def test_report_that_cannot_be_written_is_explained(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Callable[[Path], None]
) -> None:
    obstacle(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError) as raised:
        write_report(settings)
    assert f"the report cannot be written to {tmp_path}/reports/lead_quality.html: " in raised.value.message
    assert "check that the folder is writable" in str(raised.value.hint)
    assert not list(tmp_path.glob("reports/.*.draft"))


def test_report_that_cannot_be_written_keeps_the_earlier_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_report(settings, tmp_path / "report.html")
    before = target.read_bytes()
    monkeypatch.setattr("etl.reporting.report.render", lambda *_, **__: "page")
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        write_report(settings, target)
    assert target.read_bytes() == before


# --- Tables whose definition differs, and references to gold ----------------------------------------------------------

SHAPES = {
    "other columns": "create table gold.leads (id int primary key, name text)",
    "no columns of ours": "create table gold.lead_quality_matching (id int)",
    "other types": "create table gold.lead_status_history (lead_uuid int, lead_number text)",
    "a view instead of a table": "create view gold.lead_quality_current as select 1 as x",
    "a table instead of a view": "create table gold.match_scenarios (id int)",
}


@pytest.mark.parametrize("statement", SHAPES.values(), ids=SHAPES)
def test_gold_table_of_another_shape_is_named_as_the_cause(
    warehouse: Warehouse, run_pipeline: Callable[..., RunReport], statement: str
) -> None:
    name = statement.split()[2]
    warehouse.rows(f"drop schema gold cascade; create schema gold; {statement}")
    report = run_pipeline()
    assert report.exit_code == 1
    assert "the definition of a table or view differs from the pipeline's" in str(report.error)
    warehouse.rows(f"alter {statement.split()[1]} {name} set schema public")
    assert run_pipeline().error is None, "renamed, as the hint says"
    warehouse.rows(f"drop {statement.split()[1]} public.{name.partition('.')[2]} cascade")


@pytest.mark.parametrize("options", [{}, {"full_refresh": True}], ids=["incremental", "full refresh"])
@pytest.mark.parametrize(
    ("table", "key", "data_type"),
    [("leads", "lead_uuid", "varchar(255)"), ("appointments", "appointment_id", "int")],
)
def test_foreign_key_that_prevents_a_delete_is_named(
    settings: Settings,
    bucket: Bucket,
    run_pipeline: Callable[..., RunReport],
    table: str,
    key: str,
    data_type: str,
    options: dict[str, bool],
) -> None:
    analyst = psycopg2.connect(**connection_arguments(settings))
    db = analyst.cursor()
    db.execute(
        "drop schema if exists analyst cascade; create schema analyst; "
        f"create table analyst.notes (key {data_type} constraint about references gold.{table}); "
        f"insert into analyst.notes select {key} from gold.{table}"
    )
    analyst.commit()
    bucket.put_snapshot(1, [{"LEADNUMBER": "1", "email_hash": "e3", "phone_hash": "p3"}])
    bucket.put_leads([("u3", "p3", "e3")])
    error = run_pipeline(**options).error
    assert error is not None
    assert "foreign key about of analyst.notes prevents a change that the pipeline makes: drop it" in str(error.hint)
    db.execute("alter table analyst.notes drop constraint about")
    analyst.commit()
    assert run_pipeline(**options).error is None, "as the hint says"
    db.execute("drop schema analyst cascade")
    analyst.commit()
    analyst.close()
