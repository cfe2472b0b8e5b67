"""Limits that a role or database imposes on sessions (case 19): lifted for the pipeline, or named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer

import psycopg2
import pytest
from psycopg2 import sql
from servers import Server, distribution_server
from support import PROJECT, Bucket, Warehouse, connection_arguments, environment_of

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import PostgresError
from etl.utils.utils_connection import Settings, connect_postgres
from etl.warehouse.transactions import close_connections, transaction

Python = Callable[..., subprocess.CompletedProcess[str]]
ROLE, PASSWORD = "loader", "of-the-loader"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with distribution_server() as server:
        yield server


def test_statement_of_a_killed_client_ends_within_seconds(postgres_server: Settings, tmp_path: Path) -> None:
    program = (
        "from etl.utils.utils_connection import load_settings, connect_postgres\n"
        "connection = connect_postgres(load_settings())\n"
        "print(connection.info.backend_pid, flush=True)\n"
        "connection.cursor().execute('select pg_sleep(120)')"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)} | environment_of(postgres_server)
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        session = int(client.stdout.readline())
        time.sleep(0.5)
        client.kill()
    with closing(connect_postgres(postgres_server)) as connection, connection.cursor() as db:
        connection.autocommit = True  # in a transaction, pg_stat_activity does not change
        for _ in range(150):
            db.execute("select from pg_stat_activity where pid = %s and state = 'active'", (session,))
            if not db.fetchall():
                return
            time.sleep(0.1)
    raise AssertionError("the statement is still running")


@pytest.fixture
def limited(server: Server, bucket: Bucket, s3_endpoint: str) -> Iterator[Settings]:
    """A database and a role of the test's own, which it may limit, and two days in the bucket."""
    for number in (1, 2):
        bucket.put_snapshot(number, [{"LEADNUMBER": str(lead)} for lead in range(20)])
    bucket.put_leads([("u1", "p1", "e1")])
    server.execute("postgres", f"create role {ROLE} login password '{PASSWORD}'", f"create database leads owner {ROLE}")
    settings = server.settings(ROLE, PASSWORD, "leads", s3_endpoint)
    yield settings.model_copy(update={"s3_bucket_name": bucket.name})
    close_connections()
    server.execute("postgres", "drop database leads (force)", f"drop role {ROLE}")


def assert_loaded(done: subprocess.CompletedProcess[str], settings: Settings) -> None:
    assert done.returncode == 0, done.stderr
    assert Warehouse(settings).value("select count(*) from gold.lead_quality_matching") == 40


@pytest.mark.parametrize("of", [f"role {ROLE}", f"role {ROLE} in database leads", "database leads"])
def test_settings_of_the_role_do_not_apply_to_the_pipeline(
    server: Server, limited: Settings, python: Python, of: str
) -> None:
    limits = {
        "statement_timeout": "1ms",
        "idle_session_timeout": "20ms",
        "lock_timeout": "1ms",
        "quote_all_identifiers": "on",
    }
    server.execute("postgres", *(f"alter {of} set {name} = '{value}'" for name, value in limits.items()))
    done = python("main.py", environment=environment_of(limited))
    server.execute("postgres", *(f"alter {of} reset {name}" for name in limits))
    assert_loaded(done, limited)


def test_times_are_in_utc_whatever_the_server_says(server: Server, limited: Settings) -> None:
    server.execute("postgres", "alter database leads set timezone = 'Europe/Berlin'")
    with closing(connect_postgres(limited)) as connection, connection.cursor() as db:
        db.execute("select '2024-10-23 06:15+00'::timestamptz, '2024-12-23 06:15+00'::timestamptz")
        assert db.fetchone() == (datetime(2024, 10, 23, 6, 15, tzinfo=UTC), datetime(2024, 12, 23, 6, 15, tzinfo=UTC))
        db.execute("select '2024-10-23 06:15+00'::timestamptz::text")
        assert db.fetchone() == ("2024-10-23 06:15:00+00",)


def test_transaction_timeout_of_newer_servers_does_not_apply(settings: Settings) -> None:
    with closing(connect_postgres(settings)) as connection, connection.cursor() as db:
        if connection.server_version < 170_000:
            pytest.skip("transaction_timeout came with PostgreSQL 17")
        db.execute("select source, setting from pg_settings where name = 'transaction_timeout'")
        assert db.fetchall() == [("session", "0")]


def test_cancelled_statement_names_statement_timeout(settings: Settings) -> None:
    with pytest.raises(PostgresError, match="statement_timeout = 0") as raised, transaction(settings) as db:
        db.execute("set local statement_timeout = '20ms'; select pg_sleep(5)")
    assert not raised.value.transient


def test_rows_that_violate_a_constraint_are_not_shown(settings: Settings) -> None:
    with pytest.raises(PostgresError) as raised, transaction(settings) as db:
        db.execute(
            "create temporary table t (hash text check (hash <> 'of a person')); insert into t values ('of a person')"
        )
    assert "t_hash_check" in str(raised.value)
    assert "of a person" not in str(raised.value)


# --- Connection limits ------------------------------------------------------------------------------------------------


def test_connection_limit_is_named_with_the_number_of_workers(
    server: Server, limited: Settings, python: Python
) -> None:
    server.execute("postgres", f"alter role {ROLE} connection limit 1")
    done = python("main.py", environment=environment_of(limited))
    assert done.returncode == 1
    assert "connection limit" in done.stderr.partition("→")[2]
    assert "--workers" in done.stderr


def test_one_worker_gets_along_with_three_connections(server: Server, limited: Settings, python: Python) -> None:
    server.execute("postgres", f"alter role {ROLE} connection limit 3")
    assert_loaded(python("main.py", "--workers", "1", environment=environment_of(limited)), limited)


@pytest.mark.parametrize("of", ["role", "database"])
def test_connection_limit_is_transient(server: Server, limited: Settings, of: str) -> None:
    """Another client may disconnect soon."""
    name = sql.Identifier(ROLE if of == "role" else "leads")
    server.execute("postgres", sql.SQL("alter {} {} connection limit 0").format(sql.SQL(of), name))
    with pytest.raises(PostgresError, match="raise the limit") as raised, translate_postgres_errors(limited):
        connect_postgres(limited)
    assert raised.value.transient


def test_run_continues_when_connections_become_free(server: Server, limited: Settings) -> None:
    server.execute("postgres", f"alter role {ROLE} connection limit 3")
    other = [psycopg2.connect(**connection_arguments(limited)) for _ in range(2)]
    started = time.monotonic()
    Timer(2, lambda: [connection.close() for connection in other]).start()
    report = run_steps(limited, STEPS, workers=1)
    assert report.error is None, report.error
    assert time.monotonic() - started > 2
