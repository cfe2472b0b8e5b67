"""The role of BI tools reads all of gold, including later tables, and nothing else; it writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege
from pydantic import SecretStr
from support import Bucket, Warehouse, connection_arguments, drop_schemas, empty_warehouse

from etl.engine.report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]
PASSWORD = 'a reader\'s \\ "word" %s'


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """Yield a filled warehouse with a password for readers."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        settings = settings.model_copy(update={"bi_reader_password": SecretStr(PASSWORD)})
        bucket = Bucket(settings)
        bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
        bucket.put_leads([("lead 1", "p1", "e1")])
        assert run_steps(settings, STEPS).error is None
        yield settings
        drop_schemas(settings)
        Warehouse(settings).rows("drop role bi_reader")


@pytest.fixture
def reader(settings: Settings) -> Warehouse:
    return Warehouse(
        settings.model_copy(update={"postgres_user": "bi_reader", "postgres_password": SecretStr(PASSWORD)})
    )


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
    objects = relations(settings, "gold")
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
    ],
)
def test_nothing_can_be_written(reader: Warehouse, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        reader.rows(statement)


def test_role_without_password_cannot_log_in(settings: Settings) -> None:
    warehouse = Warehouse(settings)
    drop_schemas(settings)
    warehouse.rows("drop role bi_reader")
    without = settings.model_copy(update={"bi_reader_password": None})
    assert run_steps(without, STEPS).error is None
    assert warehouse.value("select rolcanlogin from pg_roles where rolname = 'bi_reader'") is False
    assert warehouse.value("select has_table_privilege('bi_reader', 'gold.match_scenarios', 'select')") is True

    assert run_steps(settings, STEPS).error is None, "a password can be set later"
    assert warehouse.value("select rolcanlogin from pg_roles where rolname = 'bi_reader'") is True


def test_loader_without_createrole_continues_without_bi_reader(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Warehouse(settings)
    drop_schemas(settings)
    owner.rows("drop role bi_reader")
    owner.rows("drop role if exists only_loads")
    owner.rows("create role only_loads login password 'only-loads'")
    owner.rows(f"grant create on database {settings.postgres_db} to only_loads")
    limited = settings.model_copy(update={"postgres_user": "only_loads", "postgres_password": SecretStr("only-loads")})
    try:
        with caplog.at_level(logging.WARNING):
            assert run_steps(limited, STEPS).error is None
        assert "As a superuser: create role bi_reader;" in caplog.text
        assert PASSWORD not in caplog.text
        assert owner.value("select count(*) from pg_roles where rolname = 'bi_reader'") == 0

        owner.rows("create role bi_reader")
        assert run_steps(limited, STEPS).error is None, "the role cannot set the password"
        assert Warehouse(limited).value("select has_table_privilege('bi_reader', 'gold.match_scenarios', 'select')")
        assert owner.value("select rolcanlogin from pg_roles where rolname = 'bi_reader'") is False
    finally:
        close_connections()
        with psycopg2.connect(**connection_arguments(limited)) as connection, connection.cursor() as db:
            db.execute("drop schema if exists bronze, silver, gold, meta, partitions, staging cascade")
        connection.close()
        owner.rows(f"revoke create on database {settings.postgres_db} from only_loads; drop role only_loads")
        assert run_steps(settings, STEPS).error is None
