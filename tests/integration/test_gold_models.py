"""The tables of leads in gold follow from the days of silver and the leads, in whatever order these came."""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from typing import Any, NamedTuple, NoReturn

import psycopg2
import pytest
from support import Bucket, Warehouse, connection_arguments, drop_schemas, empty_warehouse

from etl import step6_insert_into_gold_tables
from etl.engine.report import RunReport
from etl.utils.utils_connection import Settings
from etl.warehouse import gold_models, row_versions
from etl.warehouse.transactions import close_connections

Run = Callable[..., RunReport]

TABLES = ("gold.leads", "gold.lead_quality_current", "gold.appointments", "gold.lead_status_history")
APPOINTMENT_IDS = "select lead_uuid, appointment_date, appointment_id from gold.appointments order by 1, 2"


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse and one bucket for all these tests: connecting anew takes longer than emptying them."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


@pytest.fixture(autouse=True)
def _nothing_stands_yet(settings: Settings, bucket: Bucket) -> None:
    bucket.clear()
    drop_schemas(settings)


# --- Random snapshots -------------------------------------------------------------------------------------------------

PEOPLE = 12
APPOINTMENTS = ("", "12/13/2022  1:00PM", "12/13/2022  2:00PM", "12/14/2022", "01/02/2023  1:00PM")


def random_day(chance: random.Random, *, rows: int = 25) -> list[dict[str, str]]:
    """Rows of few people who share hashes and lead numbers, stay as they are, change, go and come again."""
    return [random_row(chance) for _ in range(rows)]


def random_row(chance: random.Random) -> dict[str, str]:
    person = chance.randrange(PEOPLE)
    return {
        "LEADNUMBER": chance.choice((str(person), str(person), str(person + 100), "7", "")),
        "email_hash": chance.choice((f"e{person}", f"E{person} ", f"e{(person + 1) % PEOPLE}", "")),
        "phone_hash": chance.choice((f"p{person}", f"p{person}", f"p{(person + 2) % PEOPLE}", "")),
        "Dispo": chance.choice(("Data", "Data", "Sale", "")),
        "Set": chance.choice("011"),
        "Appt Date": chance.choice(APPOINTMENTS),
        "CITY": chance.choice(("Boise", "Boise", "Reno")),
    }


def put_random_leads(bucket: Bucket, chance: random.Random, count: int = PEOPLE + 3) -> None:
    """Some were never in the CRM, some lead_uuids stand there twice, some share a hash."""
    leads: list[tuple[str | None, str | None, str | None]] = [
        (f"lead {number}", f"p{number}", f"e{number}") for number in range(count)
    ]
    leads += [(f"lead {chance.randrange(PEOPLE)}", f"p{chance.randrange(PEOPLE)}", f"e{number}") for number in range(4)]
    bucket.put_leads(leads)


# --- What they shall be, made out row by row --------------------------------------------------------------------------

MATCHED_SNAPSHOTS = r"""
    with leads as (
        select lead_uuid, nullif(lower(btrim(email_hash)), '') as email, nullif(lower(btrim(phone_hash)), '') as phone
        from silver.stg_leads_parquet
    )

    select
        s._partition_date,
        lead_uuid,
        coalesce(lower(btrim(s.email_hash)) = leads.email, false) as email_match,
        coalesce(lower(btrim(s.phone_hash)) = leads.phone, false) as phone_match,
        lead_number, s.email_hash, s.phone_hash, city, state, zip, appt_date, appt_time, set, demo, dispo, job_status,
        location, s._row_hash
    from silver.stg_csv_snapshots as s
    inner join leads on lower(btrim(s.email_hash)) = leads.email or lower(btrim(s.phone_hash)) = leads.phone
"""


class Matched(NamedTuple):
    day: date
    lead_uuid: str
    email_match: bool
    phone_match: bool
    lead_number: int | None
    email_hash: str | None
    phone_hash: str | None
    city: str | None
    state: str | None
    zip: str | None
    appt_date: datetime | None
    appt_time: time | None
    set: int | None
    demo: int | None
    dispo: str | None
    job_status: str | None
    location: str | None
    row_hash: int

    @property
    def place(self) -> tuple[Any, ...]:
        """The lower, the better: its rank among the rows of its lead and day."""
        number = (self.lead_number is None, self.lead_number or 0)
        return (not (self.email_match and self.phone_match), not self.email_match, number, self.row_hash)

    @property
    def status(self) -> tuple[Any, ...]:
        return (self.dispo, self.job_status, self.set, self.demo, self.appt_date)

    @property
    def as_in_leads(self) -> tuple[Any, ...]:
        return (*self[4:11], *self[12:-1])


def assert_tables_are_as_made_out_row_by_row(warehouse: Warehouse) -> None:
    matched = [Matched(*row) for row in warehouse.rows(MATCHED_SNAPSHOTS)]
    assert_leads(warehouse, matched)
    assert_appointments(warehouse, matched)
    assert_history(warehouse, matched)


def assert_leads(warehouse: Warehouse, matched: list[Matched]) -> None:
    latest: dict[str, Matched] = {}
    first_seen: dict[str, date] = {}
    for row in sorted(matched, key=lambda row: row.place, reverse=True):
        if row.lead_uuid not in latest or row.day >= latest[row.lead_uuid].day:
            latest[row.lead_uuid] = row
        first_seen[row.lead_uuid] = min(first_seen.get(row.lead_uuid, row.day), row.day)
    backend = {uuid for (uuid,) in warehouse.rows("select lead_uuid from silver.stg_leads_parquet")}
    never_seen = (None,) * 14
    assert {uuid: tuple(rest) for uuid, *rest in warehouse.rows("select * from gold.leads")} == {
        uuid: (*latest[uuid].as_in_leads, first_seen[uuid], latest[uuid].day) if uuid in latest else never_seen
        for uuid in backend
    }
    current = warehouse.rows("select * from gold.lead_quality_current")
    assert {row[0]: row[1:13] for row in current} == {uuid: row.as_in_leads for uuid, row in latest.items()}
    assert len(current) == len(latest)
    of_matching = set(warehouse.rows("select * from gold.lead_quality_matching"))
    assert set(current) <= of_matching


def assert_appointments(warehouse: Warehouse, matched: list[Matched]) -> None:
    status: dict[tuple[str, datetime], str | None] = {}
    shown = [row for row in matched if row.appt_date]
    for row in sorted(sorted(shown, key=lambda row: row.place, reverse=True), key=lambda row: row.day):
        assert row.appt_date
        status[row.lead_uuid, datetime.combine(row.appt_date.date(), row.appt_time or time())] = row.dispo
    found = warehouse.rows("select lead_uuid, appointment_date, status, user_id from gold.appointments")
    assert {(uuid, moment): said for uuid, moment, said, _ in found} == status
    assert {user for *_, user in found} <= {None}


def assert_history(warehouse: Warehouse, matched: list[Matched]) -> None:
    by_number: dict[tuple[str, int | None], dict[date, Matched]] = defaultdict(dict)
    for row in sorted(matched, key=lambda row: row.place, reverse=True):
        by_number[row.lead_uuid, row.lead_number][row.day] = row
    periods = []
    for key, days in by_number.items():
        by_day = sorted(days.items())
        begins = [
            (row.status, day)
            for (_, earlier), (day, row) in itertools.pairwise([(None, None), *by_day])
            if earlier is None or row.status != earlier.status
        ]
        for (status, day), (_, next_day) in itertools.pairwise([*begins, (None, None)]):
            periods.append((*key, *status, day, next_day, next_day is None))
    found = warehouse.rows("select * from gold.lead_status_history")
    assert sorted(found, key=repr) == sorted(periods, key=repr)


@pytest.mark.parametrize("seed", range(4))
def test_they_hold_what_the_snapshots_say(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int) -> None:
    chance = random.Random(seed)
    put_random_leads(bucket, chance)
    days = [random_day(chance) for _ in range(5)]
    kept = days[0][:8]
    for number, rows in enumerate(days, start=1):
        # some rows stay as they are for days, some of these twice in a snapshot, and some are missing in between
        bucket.put_snapshot(number, [*rows, *kept[:4], *(kept[4:] * 2 if number != 3 else [])])
    assert run_pipeline().error is None
    assert_tables_are_as_made_out_row_by_row(warehouse)
    assert warehouse.value("select count(*) from gold.lead_status_history where not is_current") > 20
    assert warehouse.value("select count(*) from gold.appointments") > 20
    assert warehouse.value("select count(*) from gold.leads where last_seen is null") > 0


# --- Day by day -------------------------------------------------------------------------------------------------------


def steady_days(chance: random.Random, count: int) -> list[list[dict[str, str]]]:
    """Each day is the day before with a few rows gone, changed or new."""
    days = [random_day(chance, rows=30)]
    ever = list(days[0])
    for _ in range(count - 1):
        rows = [row for row in days[-1] if chance.random() < 0.9]
        rows += [random_row(chance) for _ in range(2)] + chance.sample(ever, 2)
        ever += rows
        days.append(rows)
    return days


@pytest.fixture
def restarts(warehouse: Warehouse) -> Callable[[], bool]:
    """Whether row versions were built from nothing since the last call: that gives their table another file."""
    seen = [None]

    def has_restarted() -> bool:
        seen.append(warehouse.value("select pg_relation_filenode('silver.row_versions_open')"))
        return seen[-1] != seen[-2]

    return has_restarted


@pytest.mark.parametrize("seed", range(3))
def test_days_that_come_one_by_one_leave_what_all_at_once_do(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int, restarts: Callable[[], bool]
) -> None:
    chance = random.Random(f"steady {seed}")
    days = dict(enumerate(steady_days(chance, 8), start=1))
    put_random_leads(bucket, chance)
    for number, rows in days.items():
        bucket.put_snapshot(number, rows)
        assert run_pipeline().error is None
        assert restarts() == (number == 1)
        assert_tables_are_as_made_out_row_by_row(warehouse)
    contents, ids = warehouse.contents(), warehouse.rows(APPOINTMENT_IDS)
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
    assert warehouse.rows(APPOINTMENT_IDS) == ids

    drop_schemas(warehouse.settings)
    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    assert warehouse.rows(APPOINTMENT_IDS) == ids, "ids are given in the order of days"


def test_several_days_at_once_are_added_to_many(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, restarts: Callable[[], bool]
) -> None:
    chance = random.Random("several")
    put_random_leads(bucket, chance)
    for number, rows in enumerate(steady_days(chance, 9), start=1):
        bucket.put_snapshot(number, rows)
        if number in (6, 9):
            assert run_pipeline().error is None
            assert restarts() == (number == 6)
    assert_tables_are_as_made_out_row_by_row(warehouse)


@pytest.mark.parametrize("seed", range(3))
def test_days_in_any_order_and_one_corrected_leave_what_a_full_refresh_does(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int
) -> None:
    chance = random.Random(f"shuffled {seed}")
    days = list(enumerate(steady_days(chance, 8), start=1))
    put_random_leads(bucket, chance)
    known: dict[tuple[Any, ...], int] = {}
    corrected = (chance.randrange(2, 8), random_day(chance))
    for number, rows in [*chance.sample(days, len(days)), corrected]:
        bucket.put_snapshot(number, rows)
        assert run_pipeline().error is None
        ids = {tuple(key): number for *key, number in warehouse.rows(APPOINTMENT_IDS)}
        assert [key for key in known.keys() & ids.keys() if known[key] != ids[key]] == [], "ids stay"
        known |= ids
    assert_tables_are_as_made_out_row_by_row(warehouse)
    contents, ids_now = warehouse.contents(), warehouse.rows(APPOINTMENT_IDS)
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
    assert warehouse.rows(APPOINTMENT_IDS) == ids_now
    drop_schemas(warehouse.settings)
    assert run_pipeline().error is None
    assert warehouse.contents() == contents


def test_other_leads_leave_what_a_full_rebuild_does(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    chance = random.Random("leads")
    for number, rows in enumerate(steady_days(chance, 4), start=1):
        bucket.put_snapshot(number, rows)
    for count in (PEOPLE, PEOPLE - 5, PEOPLE + 5):
        put_random_leads(bucket, chance, count)
        assert run_pipeline().error is None
        assert_tables_are_as_made_out_row_by_row(warehouse)


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


def test_the_user_of_an_appointment_stays(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_snapshot(1, [{}])
    bucket.put_leads([("a", "p1", "e1")])
    assert run_pipeline().error is None
    warehouse.rows("insert into gold.users (user_id) values (5); update gold.appointments set user_id = 5")
    bucket.put_snapshot(2, [{"Dispo": "Sale"}])
    assert run_pipeline().error is None
    assert warehouse.rows("select status, user_id from gold.appointments") == [("Sale", 5)]


# --- What is not as it was left ---------------------------------------------------------------------------------------


@pytest.fixture
def loaded(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> dict[str, str]:
    """Five days, and what the tables hold then."""
    chance = random.Random("loaded")
    put_random_leads(bucket, chance)
    for number, rows in enumerate(steady_days(chance, 5), start=1):
        bucket.put_snapshot(number, rows)
    assert run_pipeline().error is None
    return warehouse.contents()


HARM = [
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
    "drop table gold.lead_status_history",
    "drop table gold.appointments",
    "drop table gold.leads cascade",
    "drop table gold.leads cascade; truncate gold.lead_quality_current",
    "insert into gold.users (user_id) values (5); update gold.appointments set user_id = 5; "
    "drop table gold.users cascade",
    "update gold.appointments set status = 'x'; drop table silver.row_versions_closed",
    "delete from silver.row_versions; update gold.leads set city = 'Elsewhere'",
    "update silver.row_versions_open set dispo = 'x'",
    "drop table silver.row_versions",
    "truncate silver.versioned_days",
    "delete from silver.version_matches where email_match; delete from partitions.lead_quality_matching_02",
    "drop table silver.matched_leads",
    "drop schema silver cascade",
    "drop schema staging cascade",
    # another version of the code has built them
    "update meta.table_loads set code_version = 'x' where parent_table = 'silver.row_versions'",
    "update meta.table_loads set code_version = 'x' where parent_table = 'silver.version_matches'",
    "update meta.table_loads set code_version = 'x' where parent_table = 'gold.lead_status_history'",
]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("with_a_new_day", [False, True], ids=["alone", "with a new day"])
def test_the_next_run_mends_it(
    loaded: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, harm: str, with_a_new_day: bool
) -> None:
    warehouse.rows(harm)
    if with_a_new_day:
        bucket.put_snapshot(6, random_day(random.Random("new")))
    assert run_pipeline().error is None
    assert_tables_are_as_made_out_row_by_row(warehouse)
    if not with_a_new_day:
        assert warehouse.contents() == loaded
    in_gold = "contype = 'f' and conrelid::regclass::text like 'gold.%%'"
    assert warehouse.value(f"select count(*) from pg_constraint where {in_gold}") == 4


def test_nothing_changed_writes_nothing(loaded: dict[str, str], run_pipeline: Run, warehouse: Warehouse) -> None:
    def written() -> list[tuple[Any, ...]]:
        return [row for table in TABLES for row in warehouse.rows(f"select t::text, xmin::text from {table} as t")]

    before = written()
    assert run_pipeline().error is None
    assert written() == before
    assert run_pipeline(full_refresh=True).error is None
    assert sorted(written()) == sorted(before)
    assert warehouse.contents() == loaded


def test_a_new_day_writes_what_it_changes_and_no_more(
    loaded: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded
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
    assert_tables_are_as_made_out_row_by_row(warehouse)


@pytest.mark.parametrize("step", ["apply_day", "build_model", "publish_gold"])
def test_run_killed_in_step_6_is_completed_by_the_next(
    loaded: dict[str, str],
    bucket: Bucket,
    run_pipeline: Run,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    del loaded
    before = warehouse.gold()
    for number in (6, 7):
        bucket.put_snapshot(number, random_day(random.Random(f"new {number}")))
    module = step6_insert_into_gold_tables if step == "publish_gold" else row_versions
    module = gold_models if step == "build_model" else module
    with monkeypatch.context() as patch:
        patch.setattr(module, step, raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline()
    assert warehouse.gold() == before
    assert run_pipeline().error is None
    assert_tables_are_as_made_out_row_by_row(warehouse)


def test_leads_that_a_new_day_has_not_keep_the_day_on_which_they_were_seen_last(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    bucket.put_leads([(uuid, f"p{uuid}", f"e{uuid}") for uuid in "abcd"])
    rows = {uuid: {"LEADNUMBER": str(n), "email_hash": f"e{uuid}", "phone_hash": ""} for n, uuid in enumerate("abcd")}
    both = {**rows["b"], "LEADNUMBER": "9", "phone_hash": "pb"}
    for number, day in enumerate(["abc", "abc", "abc", "ac", "a", "ab", ""], start=1):
        # of b there are two rows, and the better one goes first
        twice = [both] if number <= 2 else []
        bucket.put_snapshot(number, [*(rows[uuid] for uuid in day), *twice, {"LEADNUMBER": "100"}])
        assert run_pipeline().error is None
        assert_tables_are_as_made_out_row_by_row(warehouse)
    assert warehouse.rows("select lead_uuid, last_seen::text from gold.leads order by 1") == [
        ("a", "2024-10-06"),
        ("b", "2024-10-06"),
        ("c", "2024-10-04"),
        ("d", None),
    ]


def test_a_warehouse_whose_transactions_see_only_what_was_there_when_they_began(
    loaded: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, settings: Settings
) -> None:
    del loaded
    isolation = f"alter database {settings.postgres_db} {{}} default_transaction_isolation"
    warehouse.rows(isolation.format("set") + " = 'repeatable read'")
    close_connections(settings)
    try:
        bucket.put_snapshot(6, random_day(random.Random("new")))
        assert run_pipeline().error is None
        assert_tables_are_as_made_out_row_by_row(warehouse)
    finally:
        warehouse.rows(isolation.format("reset"))
        close_connections(settings)


def raise_interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def test_views_of_others_on_them_stay(
    loaded: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    del loaded
    for number, table in enumerate((*TABLES, "gold.conversion_funnel_per_state")):
        warehouse.rows(f"create or replace view public.on_gold_{number} as select * from {table}")
    bucket.put_snapshot(6, random_day(random.Random("new")))
    assert run_pipeline().error is None
    assert run_pipeline(full_refresh=True).error is None
    for number, table in enumerate(TABLES):
        assert warehouse.rows(f"select count(*) from public.on_gold_{number}") == warehouse.rows(
            f"select count(*) from {table}"
        )


def test_who_has_read_them_finds_the_rest_of_gold_as_it_was_then(
    loaded: dict[str, str], bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    """Days that take their places are not versioned by snapshot: the publication waits for him."""
    del loaded
    of_days = "select count(*), max(_partition_date), count(distinct lead_uuid) from gold.lead_quality_matching"
    before = warehouse.rows(of_days)
    reports = []
    connection = psycopg2.connect(**connection_arguments(warehouse.settings))
    try:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as reader:
            reader.execute("select count(*) from gold.leads")
            bucket.put_snapshot(6, random_day(random.Random("new")))
            run = threading.Thread(target=lambda: reports.append(run_pipeline()))
            run.start()
            run.join(timeout=2)
            assert run.is_alive(), "it waits"
            reader.execute(of_days)
            assert reader.fetchall() == before
    finally:
        connection.close()
    run.join()
    assert [report.error for report in reports] == [None]
    assert warehouse.rows(of_days) != before


def test_references_of_others_to_leads_stay(loaded: dict[str, str], run_pipeline: Run, warehouse: Warehouse) -> None:
    warehouse.rows("create table public.notes (lead_uuid varchar(255) references gold.leads)")
    try:
        warehouse.rows("truncate gold.leads cascade")
        assert run_pipeline().error is None
        assert warehouse.contents() == loaded
        assert warehouse.value("select count(*) from pg_constraint where conrelid = 'public.notes'::regclass") == 1
    finally:
        warehouse.rows("drop table public.notes")


def test_leads_without_any_day_are_there(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads([("a", "p1", "e1")])
    bucket.put("SFTP/data_1.csv", b"")
    run_pipeline()
    assert warehouse.rows("select lead_uuid, last_seen from gold.leads") == [("a", None)]
