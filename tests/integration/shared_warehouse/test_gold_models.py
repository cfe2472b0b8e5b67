"""The gold tables depend only on the days and the leads in silver, not on the order in which they arrived."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from loads import APPOINTMENT_IDS, assert_rebuild_gives_equal_tables
from oracle import assert_gold_equals_oracle
from random_snapshots import PEOPLE, put_random_leads, random_day, steady_days
from support import Bucket, Warehouse, times

from etl.engine.run_report import RunReport

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.mark.parametrize("seed", range(times(2, 4)))
def test_gold_tables_equal_the_oracle(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int) -> None:
    rng = random.Random(seed)
    put_random_leads(bucket, rng)
    days = [random_day(rng) for _ in range(5)]
    kept = days[0][:8]
    for number, rows in enumerate(days, start=1):
        # some rows stay unchanged, some of them are duplicated within a day, and some are missing on day 3
        bucket.put_snapshot(number, [*rows, *kept[:4], *(kept[4:] * 2 if number != 3 else [])])
    assert run_pipeline().error is None
    assert_gold_equals_oracle(warehouse.rows)
    assert warehouse.value("select count(*) from gold.lead_status_history where not is_current") > 20
    assert warehouse.value("select count(*) from gold.appointments") > 20
    assert warehouse.value("select count(*) from gold.leads where last_seen is null") > 0


# --- Day by day -------------------------------------------------------------------------------------------------------


@pytest.fixture
def restarts(warehouse: Warehouse) -> Callable[[], bool]:
    """Return a function that tells whether row versions were rebuilt since its last call: in another file."""
    seen = [None]

    def has_restarted() -> bool:
        seen.append(warehouse.value("select pg_relation_filenode('silver.row_contents')"))
        return seen[-1] != seen[-2]

    return has_restarted


@pytest.mark.parametrize("seed", range(times(1, 3)))
def test_daily_loads_give_the_same_tables_as_one_load(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int, restarts: Callable[[], bool]
) -> None:
    rng = random.Random(f"steady {seed}")
    days = dict(enumerate(steady_days(rng, 8), start=1))
    put_random_leads(bucket, rng)
    for number, rows in days.items():
        bucket.put_snapshot(number, rows)
        assert run_pipeline().error is None
        assert restarts() == (number == 1)
        assert_gold_equals_oracle(warehouse.rows)
    ids = assert_rebuild_gives_equal_tables(warehouse, run_pipeline)
    assert warehouse.rows(APPOINTMENT_IDS) == ids, "ids are assigned in the order of days"


def test_several_new_days_in_one_run_are_merged(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, restarts: Callable[[], bool]
) -> None:
    rng = random.Random("several")
    put_random_leads(bucket, rng)
    for number, rows in enumerate(steady_days(rng, 9), start=1):
        bucket.put_snapshot(number, rows)
        if number in (6, 9):
            assert run_pipeline().error is None
            assert restarts() == (number == 6)
    assert_gold_equals_oracle(warehouse.rows)


@pytest.mark.parametrize("seed", range(times(1, 3)))
def test_late_and_corrected_days_give_the_same_tables_as_a_full_refresh(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int
) -> None:
    rng = random.Random(f"shuffled {seed}")
    days = list(enumerate(steady_days(rng, 8), start=1))
    put_random_leads(bucket, rng)
    known: dict[tuple[Any, ...], int] = {}
    corrected = (rng.randrange(2, 8), random_day(rng))
    for number, rows in [*rng.sample(days, len(days)), corrected]:
        bucket.put_snapshot(number, rows)
        assert run_pipeline().error is None
        ids = {tuple(key): number for *key, number in warehouse.rows(APPOINTMENT_IDS)}
        assert [key for key in known.keys() & ids.keys() if known[key] != ids[key]] == [], "ids do not change"
        known |= ids
    assert_gold_equals_oracle(warehouse.rows)
    assert_rebuild_gives_equal_tables(warehouse, run_pipeline)


def test_changed_leads_give_the_same_tables_as_a_rebuild(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    rng = random.Random("leads")
    for number, rows in enumerate(steady_days(rng, 4), start=1):
        bucket.put_snapshot(number, rows)
    for count in (PEOPLE, PEOPLE - 5, PEOPLE + 5):
        put_random_leads(bucket, rng, count)
        assert run_pipeline().error is None
        assert_gold_equals_oracle(warehouse.rows)


# --- Ids of appointments ----------------------------------------------------------------------------------------------


def test_appointment_that_disappears_and_returns_keeps_its_id(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    def snapshot(*appointments: str) -> None:
        bucket.put_snapshot(1, [{"LEADNUMBER": str(n), "Appt Date": day} for n, day in enumerate(appointments)])
        assert run_pipeline().error is None

    def ids() -> dict[str, int]:
        return dict(
            warehouse.rows("select to_char(appointment_date, 'DD HH24'), appointment_id from gold.appointments")
        )

    bucket.put_leads([("a", "p1", "e1")])
    snapshot("12/13/2022  1:00PM", "12/14/2022  1:00PM", "12/15/2022")
    assert ids() == {"13 13": 1, "14 13": 2, "15 00": 3}
    snapshot("12/13/2022  1:00PM", "12/14/2022  1:00PM")
    assert ids() == {"13 13": 1, "14 13": 2}
    snapshot("12/14/2022  1:00PM", "12/12/2022")
    assert ids() == {"14 13": 2, "12 00": 4}
    assert run_pipeline(full_refresh=True).error is None
    assert ids() == {"14 13": 2, "12 00": 4}
    snapshot("12/15/2022", "12/13/2022  1:00PM", "12/16/2022")
    assert ids() == {"13 13": 1, "15 00": 3, "16 00": 5}
    warehouse.rows("drop table gold.appointments")
    assert run_pipeline().error is None
    assert ids() == {"13 13": 1, "15 00": 3, "16 00": 5}


def test_user_of_an_appointment_is_kept(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, [{}])
    bucket.put_leads([("a", "p1", "e1")])
    assert run_pipeline().error is None
    warehouse.rows("insert into gold.users (user_id) values (5); update gold.appointments set user_id = 5")
    bucket.put_snapshot(2, [{"Dispo": "Sale"}])
    assert run_pipeline().error is None
    assert warehouse.rows("select status, user_id from gold.appointments") == [("Sale", 5)]


def test_leads_missing_from_a_new_day_keep_last_seen(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads([(uuid, f"p{uuid}", f"e{uuid}") for uuid in "abcd"])
    rows = {uuid: {"LEADNUMBER": str(n), "email_hash": f"e{uuid}", "phone_hash": ""} for n, uuid in enumerate("abcd")}
    both = {**rows["b"], "LEADNUMBER": "9", "phone_hash": "pb"}
    for number, day in enumerate(["abc", "abc", "abc", "ac", "a", "ab", ""], start=1):
        # lead b has two rows on these days, and loses the better one first
        twice = [both] if number <= 2 else []
        bucket.put_snapshot(number, [*(rows[uuid] for uuid in day), *twice, {"LEADNUMBER": "100"}])
        assert run_pipeline().error is None
        assert_gold_equals_oracle(warehouse.rows)
    assert warehouse.rows("select lead_uuid, last_seen::text from gold.leads order by 1") == [
        ("a", "2024-10-06"),
        ("b", "2024-10-06"),
        ("c", "2024-10-04"),
        ("d", None),
    ]


def test_leads_without_any_snapshot_are_loaded(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads([("a", "p1", "e1")])
    bucket.put("SFTP/data_1.csv", b"")
    run_pipeline()
    assert warehouse.rows("select lead_uuid, last_seen from gold.leads") == [("a", None)]
