"""PgBouncer between the pipeline and PostgreSQL: session mode works, transaction mode is refused (case 08)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from pgbouncer import pgbouncer
from support import Bucket, Warehouse, connection_arguments, environment_of, run_case

from etl.engine import run_lock
from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.errors import PostgresError
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

TRANSACTION_MODE = {"pool_mode": "transaction", "ignore_startup_parameters": "options"}
ADVISORY_LOCKS = "select count(*) from pg_locks where locktype = 'advisory'"


@pytest.fixture
def one_day(bucket: Bucket) -> None:
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
    bucket.put_leads([("u1", "p1", "e1")])


def run_through(settings: Settings) -> tuple[RunReport, float]:
    started = time.monotonic()
    report = run_steps(settings, STEPS)
    close_connections()
    return report, time.monotonic() - started


def assert_refused(report: RunReport, seconds: float) -> None:
    assert report.exit_code == 1
    assert report.error is not None
    assert "PostgreSQL itself, or to a connection pool in session mode" in str(report.error.hint)
    assert seconds < 3, "at once"


@pytest.mark.usefixtures("one_day")
def test_pooler_with_default_settings_is_refused_at_once(settings: Settings) -> None:
    with pgbouncer(settings) as pooled:
        report, seconds = run_through(pooled)
    assert_refused(report, seconds)
    assert "unsupported startup parameter" in str(report.error)


@contextmanager
def other_clients(settings: Settings, count: int) -> Iterator[None]:
    """Give the pool several backends that are free."""
    clients = [psycopg2.connect(**connection_arguments(settings)) for _ in range(count)]
    for client in clients:
        client.cursor().execute("select 1")
    for client in clients:
        client.commit()
    yield
    for client in clients:
        client.close()


@pytest.mark.usefixtures("one_day")
@pytest.mark.parametrize("order", [{}, {"server_round_robin": 1}], ids=["last used first", "in rotation"])
@pytest.mark.parametrize("clients", [0, 1, 4])
def test_transaction_pooling_is_refused_and_no_lock_remains(
    settings: Settings, warehouse: Warehouse, order: dict[str, object], clients: int
) -> None:
    with pgbouncer(settings, **TRANSACTION_MODE, **order) as pooled, other_clients(pooled, clients):
        for _ in range(2):
            report, seconds = run_through(pooled)
            assert_refused(report, seconds)
        assert warehouse.value(ADVISORY_LOCKS) == 0
    assert run_steps(settings, STEPS).exit_code == 0, "a run past the pool finds the lock free"


@pytest.mark.usefixtures("one_day")
def test_statement_pooling_is_named_as_a_cause(settings: Settings) -> None:
    """PgBouncer closes the connection without a word, as if the server was lost: the run retries before it ends."""
    with pgbouncer(settings, pool_mode="statement", ignore_startup_parameters="options") as pooled:
        report, _ = run_through(pooled)
    assert_refused(report, seconds=0)


@pytest.mark.usefixtures("one_day")
def test_case_of_transaction_pooling_leaves_no_lock(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    with pgbouncer(settings, **TRANSACTION_MODE) as pooled:
        done = run_case("08-pgbouncer-transaction-pool", tmp_path, environment=environment_of(pooled))
        assert warehouse.value(ADVISORY_LOCKS) == 0
    assert done.stdout.count("exit 1") == 2, "3 would say that another run is active"
    assert (done.stdout + done.stderr).count("PostgreSQL itself, or to a connection pool in session mode") == 2


@pytest.mark.usefixtures("one_day")
def test_session_pooling_is_accepted_with_the_settings_of_the_pipeline(
    settings: Settings, warehouse: Warehouse
) -> None:
    with pgbouncer(settings, pool_mode="session", ignore_startup_parameters="options") as pooled:
        for _ in range(2):
            report, _ = run_through(pooled)
            assert report.error is None, report.error
        with run_lock.connect_postgres(pooled) as connection, connection.cursor() as db:
            db.execute("select current_setting('lock_timeout'), current_setting('statement_timeout')")
            assert db.fetchall() == [("30s", "0")], "the pool has discarded the options of the connection"
        connection.close()
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 1


@pytest.mark.usefixtures("one_day")
def test_pool_that_is_full_is_retried(settings: Settings) -> None:
    """PgBouncer answers with the same SQLSTATE as for a wrong password."""
    with pgbouncer(settings, pool_mode="session", ignore_startup_parameters="options", max_client_conn=1) as pooled:
        busy = psycopg2.connect(**connection_arguments(pooled))
        with pytest.raises(PostgresError) as refused, run_lock.translate_postgres_errors(pooled):
            run_lock.connect_postgres(pooled)
        busy.close()
    assert "max_client_conn" in refused.value.message
    assert refused.value.transient


@pytest.mark.usefixtures("one_day")
def test_lock_that_moves_to_another_backend_is_reported(
    settings: Settings, run_pipeline: Callable[..., RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the pool had passed the first checks by chance: the lock is held by a session that is not the run's."""
    take = run_lock._lock

    def take_elsewhere(_connection: object) -> bool:
        take(elsewhere)
        return True

    elsewhere = psycopg2.connect(**connection_arguments(settings))
    monkeypatch.setattr(run_lock, "_lock", take_elsewhere)
    report = run_pipeline()
    assert report.exit_code == 1
    assert "session mode" in str(report.error)
    monkeypatch.setattr(run_lock, "_require_lock", lambda *_: None)
    report = run_pipeline()
    assert report.exit_code == 1, "unlocking answers false"
    assert "session mode" in str(report.error)
    elsewhere.close()
