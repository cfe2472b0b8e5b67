"""Gold equals a row-by-row oracle after every run of random histories, with kills between any two transactions.

    cd tests/integration/shared_warehouse
    pytest test_random_histories.py                                   # 4 histories
    FAULTS=long pytest -n 2 --dist load test_random_histories.py      # 500 histories, 20 minutes
    HISTORIES=1 FIRST_HISTORY=137 SHRINK=1 pytest test_random_histories.py

The last line replays history 137, and prints a smaller one if it fails.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import oracle
import psycopg2
import pytest
import shrink_history
from histories import History, Kill, PutDay, PutLeads, RemoveDay, Run, random_history
from killed_run import KillSwitch, run_and_kill
from oracle import AppointmentIds, Rules
from run_histories import Failure, clock_ahead, run_histories, run_history
from shrink_history import shrink
from support import Bucket, Warehouse, connection_arguments, drop_schemas, times

from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings

COUNT = int(os.environ.get("HISTORIES") or times(3, 500))
FIRST = int(os.environ.get("FIRST_HISTORY") or 0)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_gold_equals_the_oracle_after_every_run(settings: Settings, bucket: Bucket, seed: int) -> None:
    failures = run_histories(settings, bucket, [seed])
    if failures and os.environ.get("SHRINK"):
        failures.append(shrink(settings, bucket, failures[0]))
        print(failures[-1].history.as_code())  # noqa: T201 - pytest shows it
    if failures:
        pytest.fail("\n\n".join(map(str, failures)), pytrace=False)


def test_run_that_is_killed_before_it_publishes_keeps_the_old_gold(settings: Settings, bucket: Bucket) -> None:
    """Otherwise, the histories would pass if no run was ever killed."""
    row = {"LEADNUMBER": "1", "email_hash": "e1", "phone_hash": "p1"}
    killed = Run(kill=Kill("before", 1, since_step=6))
    first = (PutLeads((("lead a", "p1", "e1"),), "first"), PutDay(1, (row,), "new"), Run())
    history = History("killed in step 6", (*first, PutDay(2, (row,), "new"), killed, Run()))
    kills: Counter[str] = Counter()
    assert run_history(settings, bucket, history, kills=kills) is None
    assert kills == {"old gold": 1}


# --- Histories --------------------------------------------------------------------------------------------------------


def test_history_is_determined_by_its_seed() -> None:
    assert random_history(5) == random_history(5)
    assert random_history(5) != random_history(6)


def test_histories_contain_every_kind_of_operation() -> None:
    histories = [random_history(seed) for seed in range(200)]
    operations = [operation for history in histories for operation in history.operations]
    days = [operation for operation in operations if isinstance(operation, PutDay)]
    assert {operation.reason.split(" of day")[0] for operation in days} == {
        *("new", "late", "other rows", "a few cells corrected", "same rows in another order", "uploaded again"),
        *("shrunk", "duplicates", "separator only", "the file", "earlier version", "removed and back"),
    }
    leads = [operation.reason for operation in operations if isinstance(operation, PutLeads)]
    for reason in ("first", "added", "removed", "one hash changed", "one uuid twice", "earlier version"):
        assert any(reason in given for given in leads), reason
    assert {operation.keep_gold_load for operation in operations if isinstance(operation, RemoveDay)} == {True, False}
    runs = [operation for operation in operations if isinstance(operation, Run)]
    assert {bool(run.kill) for run in runs} == {run.full_refresh for run in runs} == {True, False}
    assert max(len(day.rows) for day in days) < 50, "limits for large days do not apply"
    assert max(len({o.number for o in h.operations if isinstance(o, PutDay)}) for h in histories) <= 16


def test_shrunk_history_contains_only_the_cause_of_the_failure(
    settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_on_a_sale(_settings: Settings, _bucket: Bucket, history: History, _rules: Rules | None) -> Failure | None:
        days = [operation for operation in history.operations if isinstance(operation, PutDay)]
        is_failing = any(row["Dispo"] == "Sale" for day in days for row in day.rows)
        return Failure(history, 1, "a sale", "") if is_failing else None

    monkeypatch.setattr(shrink_history, "run_history", fails_on_a_sale)
    smaller = shrink(settings, bucket, Failure(random_history(0), 1, "a sale", "")).history
    (day,) = smaller.operations
    assert isinstance(day, PutDay)
    assert [row["Dispo"] for row in day.rows] == ["Sale"]
    assert "Sale" in smaller.as_code()


# --- The oracle -------------------------------------------------------------------------------------------------------

DAMAGE = {
    "insert into gold.lead_quality_matching select (jsonb_populate_record(row, '{\"lead_match_id\": 0}')).* "
    "from gold.lead_quality_matching as row limit 1": oracle.MATCHING,
    "update gold.lead_quality_matching set email_match = not email_match": oracle.MATCHING,
    "update gold.leads set first_seen = first_seen - 1": oracle.LEADS,
    "insert into gold.leads (lead_uuid) values ('unknown')": oracle.LEADS,
    "update gold.lead_quality_current set _extraction_date = _extraction_date + 1": oracle.CURRENT,
    "delete from gold.appointments where appointment_id = (select max(appointment_id) from gold.appointments)": (
        oracle.APPOINTMENTS
    ),
    "update gold.lead_status_history set valid_to = valid_to + 1 where not is_current": oracle.HISTORY,
}


@pytest.fixture(scope="module")
def loaded(settings: Settings) -> Settings:
    """Return the settings of a warehouse after a history."""
    assert run_history(settings, Bucket(settings), random_history("loaded")) is None
    return settings


@pytest.mark.parametrize("damage", DAMAGE)
def test_oracle_detects_damage(loaded: Settings, damage: str) -> None:
    connection = psycopg2.connect(**connection_arguments(loaded))
    try:
        with connection.cursor() as db:

            def query(text: str) -> list[tuple[Any, ...]]:
                db.execute(text)
                return db.fetchall()

            expected = oracle.expected_gold(query, Rules())
            assert oracle.differences(oracle.actual_gold(query), expected) == {}
            db.execute(damage)
            assert db.rowcount > 0
            assert set(oracle.differences(oracle.actual_gold(query), expected)) == {DAMAGE[damage]}
    finally:
        connection.close()  # rolls back


MOMENT = datetime(2022, 12, 13, 13)  # noqa: DTZ001 - as the table has it


@pytest.mark.parametrize(
    ("later", "violation"),
    [
        ([("a", MOMENT, 2)], "was 1 and is 2"),
        ([("b", MOMENT, 1)], "belonged to"),
        ([("a", MOMENT, 1), ("b", MOMENT, 1)], "is duplicated"),
        ([("b", MOMENT, 0)], "has the id 0"),
    ],
)
def test_appointment_ids_are_permanent(later: list[tuple[Any, ...]], violation: str) -> None:
    ids = AppointmentIds(Rules())
    assert ids.violations([("a", MOMENT, 1)]) == []
    assert ids.violations([]) == []
    assert ids.violations([("a", MOMENT, 1), ("c", MOMENT, 3)]) == []
    assert violation in ids.violations(later)[0]


@pytest.mark.parametrize(("when", "commits"), [("before", 2), ("after", 3)])
@pytest.mark.parametrize("threads", [0, 2])
def test_killed_run_commits_nothing_more(
    settings: Settings, warehouse: Warehouse, when: Any, commits: int, threads: int
) -> None:
    warehouse.rows("drop table if exists public.commits; create table public.commits (number int)")

    def commit(number: int) -> None:
        connection = psycopg2.connect(**connection_arguments(settings))
        connection.cursor().execute("insert into public.commits values (%s)", (number,))
        connection.commit()

    def run() -> None:
        if threads:
            with ThreadPoolExecutor(threads) as executor:
                list(executor.map(commit, range(9)))
        else:
            for number in range(9):
                commit(number)

    try:
        switch = KillSwitch(when, 3)
        assert run_and_kill(run, switch) == (False, "")
        warehouse.rows("truncate public.commits")
        switch.arm()
        assert run_and_kill(run, switch) == (True, "")
        assert warehouse.value("select count(*) from public.commits") == commits
        assert run_and_kill(run, KillSwitch(when, 99)) == (False, "")
        assert warehouse.value("select count(*) from public.commits") == commits + 9
    finally:
        warehouse.rows("drop table public.commits")


def test_clock_of_the_pipeline_is_set_ahead(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    drop_schemas(settings)
    bucket.clear()
    bucket.put_leads([("a", "p1", "e1")])
    bucket.put_snapshot(1, [{}])
    with clock_ahead(lambda: 3):
        assert run_steps(settings, choose_steps()).error is None
    today = datetime.now(UTC).date()
    assert warehouse.value("select _extraction_date from gold.lead_quality_current") == today + timedelta(days=3)
