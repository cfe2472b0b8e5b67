"""The roles of readers: BI tools read all of gold, later tables too, analysts all layers. Neither writes anything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege, QueryCanceled
from pydantic import SecretStr
from support import Bucket, Warehouse, connection_arguments, drop_schemas, empty_warehouse

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.reporting.reading import reading
from etl.reporting.report import write_report
from etl.utils.utils_connection import Settings
from etl.warehouse import partitions
from etl.warehouse.sql_scripts import SQL_SCRIPTS
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]
PASSWORD = 'a reader\'s \\ "word" %s'


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """Yield a filled warehouse with a password for readers."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        passwords = dict.fromkeys(("bi_reader_password", "analyst_password"), SecretStr(PASSWORD))
        settings = settings.model_copy(update=passwords)
        bucket = Bucket(settings)
        bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
        bucket.put_leads([("lead 1", "p1", "e1")])
        assert run_steps(settings, STEPS).error is None
        yield settings
        drop_schemas(settings)
        Warehouse(settings).rows("drop role bi_reader, analyst")


def settings_of(role: str, settings: Settings) -> Settings:
    return settings.model_copy(update={"postgres_user": role, "postgres_password": SecretStr(PASSWORD)})


@pytest.fixture
def reader(settings: Settings) -> Warehouse:
    return Warehouse(settings_of("bi_reader", settings))


@pytest.fixture
def analyst(settings: Settings) -> Warehouse:
    return Warehouse(settings_of("analyst", settings))


def relations(settings: Settings, *schemas: str) -> list[str]:
    """Return the tables and views of some schemas."""
    return [
        name
        for (name,) in Warehouse(settings).rows(
            "select format('%%I.%%I', nspname, relname) from pg_class "
            "inner join pg_namespace on pg_namespace.oid = relnamespace "
            "where nspname = any(%s) and relkind in ('r', 'p', 'v', 'm')",
            list(schemas),
        )
    ]


def test_all_of_gold_can_be_read(settings: Settings, reader: Warehouse) -> None:
    objects = set(relations(settings, "gold")) - {"gold.users"}
    assert len(objects) >= 10
    for name in objects:
        reader.rows(f"select * from {name}")
    assert reader.value("select count(*) from gold.lead_quality_matching") == 1


def test_reader_sees_freshness_and_anomalies(reader: Warehouse) -> None:
    assert reader.rows("select latest_snapshot::text, missing_days, open_anomalies from gold.data_freshness") == [
        ("2024-10-01", 0, 0)
    ]
    assert reader.rows("select _partition_date, metric, message from gold.data_anomalies") == []


def test_tables_added_to_gold_later_can_be_read(settings: Settings, reader: Warehouse) -> None:
    owner = Warehouse(settings)
    owner.rows("create table gold.later as select 1 as one; create view gold.later_view as table gold.later")
    assert reader.rows("select * from gold.later union all select * from gold.later_view") == [(1,), (1,)]
    owner.rows("drop table gold.later cascade")


def test_rebuilt_gold_can_be_read(settings: Settings, reader: Warehouse) -> None:
    Warehouse(settings).rows("drop schema gold cascade")
    assert run_steps(settings, STEPS).error is None
    assert reader.value("select count(*) from gold.lead_quality_matching") == 1


def test_other_schemas_cannot_be_read(settings: Settings, reader: Warehouse) -> None:
    others = relations(settings, "bronze", "silver", "meta", "partitions", "staging")
    assert len(others) >= 10
    for name in others:
        with pytest.raises(InsufficientPrivilege):
            reader.rows(f"select * from {name}")


def test_analyst_reads_all_layers_and_the_run_history(settings: Settings, analyst: Warehouse) -> None:
    objects = set(relations(settings, "bronze", "silver", "gold", "meta")) - {"gold.users"}
    assert {"silver.stg_csv_data_01", "meta.pipeline_runs", "bronze.csv_snapshots"} <= objects
    for name in objects:
        analyst.rows(f"select * from {name}")
    for name in relations(settings, "partitions", "staging"):
        with pytest.raises(InsufficientPrivilege):
            analyst.rows(f"select * from {name}")


def test_analyst_runs_the_report_and_all_queries_of_notebooks(settings: Settings, tmp_path: Path) -> None:
    """tests/faults/test_secrets_in_notebooks.py executes the notebooks themselves with this role."""
    limited = settings_of("analyst", settings)
    page = write_report(limited, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 October 2024" in page
    questions = [file.stem for file in (SQL_SCRIPTS / "analysis").glob("*.sql")]
    with reading(limited) as read:
        assert all(len(read(question).columns) for question in questions)


def test_days_published_later_can_be_read_by_analysts(settings: Settings, analyst: Warehouse) -> None:
    bucket = Bucket(settings)
    bucket.put_snapshot(2, [{"LEADNUMBER": "1"}])
    assert run_steps(settings, STEPS).error is None
    assert analyst.value("select count(*) from silver.stg_csv_data_02") == 1
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_2.csv")
    assert run_steps(settings, STEPS).error is None


def test_password_hashes_of_users_cannot_be_read(reader: Warehouse, analyst: Warehouse) -> None:
    for role in (reader, analyst):
        assert role.rows("select user_id, username, role from gold.users") == []
        for statement in ("select password_hash from gold.users", "select count(password_hash) from gold.users"):
            with pytest.raises(InsufficientPrivilege):
                role.rows(statement)


def test_rights_of_an_earlier_version_are_narrowed(settings: Settings, reader: Warehouse) -> None:
    owner = Warehouse(settings)
    owner.rows("grant select on gold.users to bi_reader")
    reader.rows("select password_hash from gold.users")
    assert run_steps(settings, STEPS).error is None
    with pytest.raises(InsufficientPrivilege):
        reader.rows("select password_hash from gold.users")


def test_statements_and_idle_transactions_of_readers_end(
    settings: Settings, reader: Warehouse, analyst: Warehouse
) -> None:
    limits = "select current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
    for role in (reader, analyst):
        assert role.rows(limits) == [("4min", "1min")]
    owner = Warehouse(settings)
    owner.rows("alter role bi_reader set statement_timeout = '20ms'")
    assert run_steps(settings, STEPS).error is None
    with pytest.raises(QueryCanceled):  # the administrator's limit stays
        reader.rows("select pg_sleep(5)")
    owner.rows("alter role bi_reader reset statement_timeout")
    assert run_steps(settings, STEPS).error is None
    assert reader.rows(limits) == [("4min", "1min")]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into gold.lead_quality_matching select * from gold.lead_quality_matching",
        "update gold.lead_quality_matching set city = 'Reno'",
        "delete from gold.lead_quality_matching",
        "truncate gold.lead_quality_matching",
        "drop view gold.match_scenarios",
        "create table gold.mine (i int)",
        "create table public.mine (i int)",
        "create schema mine",
        "delete from silver.stg_csv_data_01",
        "update meta.table_loads set changed = true",
        "select nextval('meta.load_ids')",
    ],
)
def test_nothing_can_be_written(reader: Warehouse, analyst: Warehouse, statement: str) -> None:
    for role in (reader, analyst):
        with pytest.raises(InsufficientPrivilege):
            role.rows(statement)


def test_role_without_password_cannot_log_in(settings: Settings) -> None:
    warehouse = Warehouse(settings)
    drop_schemas(settings)
    warehouse.rows("drop role bi_reader, analyst")
    without = settings.model_copy(update={"bi_reader_password": None, "analyst_password": None})
    assert run_steps(without, STEPS).error is None
    can_log_in = "select bool_or(rolcanlogin), count(*) from pg_roles where rolname in ('bi_reader', 'analyst')"
    assert warehouse.rows(can_log_in) == [(False, 2)]
    assert warehouse.value("select has_table_privilege('bi_reader', 'gold.match_scenarios', 'select')") is True

    assert run_steps(settings, STEPS).error is None, "a password can be set later"
    assert warehouse.rows(can_log_in.replace("bool_or", "bool_and")) == [(True, 2)]


@pytest.fixture
def limited(settings: Settings) -> Iterator[Settings]:
    """Yield settings of a role that may create schemas, but no roles, after dropping the warehouse and the readers."""
    owner = Warehouse(settings)
    drop_schemas(settings)
    owner.rows("drop role bi_reader, analyst")
    owner.rows("drop role if exists only_loads")
    owner.rows("create role only_loads login password 'only-loads'")
    owner.rows(f"grant create on database {settings.postgres_db} to only_loads")
    limited = settings.model_copy(update={"postgres_user": "only_loads", "postgres_password": SecretStr("only-loads")})
    try:
        yield limited
    finally:
        close_connections()
        with psycopg2.connect(**connection_arguments(limited)) as connection, connection.cursor() as db:
            db.execute("drop schema if exists bronze, silver, gold, meta, partitions, staging cascade")
        connection.close()
        owner.rows(f"revoke create on database {settings.postgres_db} from only_loads; drop role only_loads")
        assert run_steps(settings, STEPS).error is None


def test_loader_without_createrole_continues_without_readers(
    settings: Settings, limited: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Warehouse(settings)
    with caplog.at_level(logging.WARNING):
        assert run_steps(limited, STEPS).error is None
    for role in ("bi_reader", "analyst"):
        assert f'as a superuser: create role "{role}" nologin; alter role' in caplog.text
        assert rf"alter role {role} login; \password {role} (enter the value of {role.upper()}_PASSWORD)" in caplog.text
    assert PASSWORD not in caplog.text
    assert owner.value("select count(*) from pg_roles where rolname in ('bi_reader', 'analyst')") == 0

    owner.rows("create role bi_reader; create role analyst")
    caplog.clear()
    assert run_steps(limited, STEPS).error is None, "the role cannot set the password"
    assert 'as a superuser: alter role "bi_reader" set' in caplog.text
    assert Warehouse(limited).value("select has_table_privilege('analyst', 'silver.row_contents', 'select')")
    assert Warehouse(limited).value("select has_table_privilege('bi_reader', 'gold.match_scenarios', 'select')")
    assert owner.value("select rolcanlogin from pg_roles where rolname = 'bi_reader'") is False


def test_blocking_session_of_another_user_is_named_as_far_as_the_role_may_see_it(
    settings: Settings, limited: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.2)
    Warehouse(settings).rows("create role bi_reader login password 'reads'")
    assert run_steps(limited, STEPS).error is None
    reads = settings.model_copy(update={"postgres_user": "bi_reader", "postgres_password": SecretStr("reads")})
    with closing(psycopg2.connect(**connection_arguments(reads), application_name="psql")) as reader:
        reader.cursor().execute("select * from gold.leads")
        report = run_steps(limited, STEPS, full_refresh=True)
        process = f"process {reader.info.backend_pid} of user bi_reader (psql) holds a lock\n"
    assert process in str(report.error)
