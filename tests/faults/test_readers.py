"""Readers of gold see only complete states, and no error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from fault_scenario import Scenario, assert_clear, assert_rerun_repairs_everything, put_version_b, run
from support import WAITING_SESSIONS, Bucket, Warehouse, connection_arguments, times

from etl.engine.run_report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse import partitions

READERS = 4
REFRESHES = times(3, 20)
ROWS = "select count(*), count(distinct _partition_date) from gold.lead_quality_matching"
SCENARIOS = "select scenario, row_count, lead_count from gold.match_scenarios order by scenario"
LEADS = """
    select
        (select count(*) from gold.leads),
        (select count(*) from gold.leads where last_seen <> (select max(_partition_date) from gold.leads_per_day)),
        (select count(*) from gold.lead_quality_current where city = 'Reno'),
        (select count(distinct lead_uuid) from gold.lead_quality_matching),
        (select count(*) from gold.lead_status_history)
"""
"""Tables of leads and days in one statement: all of them are of the same state."""


def test_readers_see_only_complete_states(
    scenario: Scenario, settings: Settings, record_property: Callable[[str, object], None]
) -> None:
    record_property("times", REFRESHES)
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    before = {query: {as_read(warehouse.rows(query))} for query in (ROWS, SCENARIOS, LEADS)}
    seen: dict[str, set[tuple[object, ...]]] = {query: set() for query in before}
    errors: list[Exception] = []
    is_over = threading.Event()
    readers = [threading.Thread(target=read, args=(settings, seen, errors, is_over.is_set)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        put_version_b(bucket)
        assert run(settings).error is None
        complete = {query: states | {as_read(warehouse.rows(query))} for query, states in before.items()}
        for _ in range(REFRESHES - 1):
            assert run(settings, full_refresh=True).error is None
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
    assert errors == []
    assert seen == complete, "readers saw the old state and the new one, and no other"
    assert warehouse.contents() == scenario.b


def read(
    settings: Settings, seen: dict[str, set[tuple[object, ...]]], errors: list[Exception], is_over: Callable[[], bool]
) -> None:
    connection = psycopg2.connect(**connection_arguments(settings))
    connection.autocommit = True
    try:
        with connection.cursor() as db:
            while not is_over():
                for query in seen:
                    db.execute(query)
                    seen[query].add(as_read(db.fetchall()))
    except psycopg2.Error as error:
        errors.append(error)
    finally:
        connection.close()


def as_read(rows: list[tuple[object, ...]]) -> tuple[object, ...]:
    return tuple(rows)


@pytest.mark.parametrize("statement", [ROWS, "lock table gold.leads in share update exclusive mode"])
def test_slow_session_delays_publication_but_no_reader(settings: Settings, statement: str) -> None:
    """A query, or maintenance such as VACUUM, locks gold for two seconds; other readers do not queue behind the run."""
    Bucket(settings).put_snapshot(1, [{}])
    waits: list[float] = []
    errors: list[Exception] = []
    reports: list[RunReport] = []
    is_over = threading.Event()

    def read_quickly() -> None:
        with closing(psycopg2.connect(**connection_arguments(settings))) as connection:
            connection.autocommit = True
            try:
                while not is_over.is_set():
                    started_at = time.monotonic()
                    connection.cursor().execute(ROWS)
                    waits.append(time.monotonic() - started_at)
                    time.sleep(0.02)
            except psycopg2.Error as error:
                errors.append(error)

    slow = psycopg2.connect(**connection_arguments(settings))
    slow.cursor().execute(statement)  # the transaction stays open
    quick = threading.Thread(target=read_quickly)
    quick.start()
    runner = threading.Thread(target=lambda: reports.append(run(settings)))
    runner.start()
    while runner.is_alive() and not Warehouse(settings).rows(WAITING_SESSIONS):
        time.sleep(0.005)
    time.sleep(2)
    assert runner.is_alive(), "the run waits for the slow session"
    slow.close()
    runner.join()
    is_over.set()
    quick.join()
    assert errors == []
    assert reports[0].error is None
    assert partitions.READERS_MAY_WAIT_MS == 100
    assert max(waits) < 1.5, "readers are delayed by at most a tenth of a second, plus tolerance for a busy machine"


@pytest.mark.parametrize(
    ("statement", "table"),
    [(ROWS, "gold.lead_quality_matching"), ("lock table gold.leads in share update exclusive mode", "gold.leads")],
)
def test_endless_session_is_named(
    scenario: Scenario, settings: Settings, monkeypatch: pytest.MonkeyPatch, statement: str, table: str
) -> None:
    monkeypatch.setattr(partitions, "SECONDS_TO_WAIT_FOR_LOCKS", 0.5)
    monkeypatch.setattr(partitions, "MAINTENANCE_MAY_WAIT_MS", 100)
    slow = psycopg2.connect(**connection_arguments(settings), application_name="a dashboard")
    slow.cursor().execute(statement)
    report = run(settings)
    session = slow.info.backend_pid
    slow.close()
    assert report.exit_code == 1
    assert_clear(report.error, "step 6", table, f"process {session}", "a dashboard", "idle in tr")
    assert Warehouse(settings).gold() == scenario.gold_of_a
    assert_rerun_repairs_everything(scenario, settings)
