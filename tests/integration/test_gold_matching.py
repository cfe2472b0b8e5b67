"""gold.lead_quality_matching: row by row the literal `left join … on a or b` of specification §6, truthfully graded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import HEADER, Bucket, Warehouse, empty_warehouse

from etl.engine.report import RunReport
from etl.utils.utils_connection import Settings

Run = Callable[..., RunReport]

LITERAL_JOIN = r"""
    with snapshots as (
        select
            *,
            nullif(lower(btrim(email_hash, e' \t')), '') as email_key,
            nullif(lower(btrim(phone_hash, e' \t')), '') as phone_key
        from silver.stg_csv_snapshots
    ),

    leads as (
        select
            lead_uuid,
            nullif(lower(btrim(email_hash, e' \t')), '') as email_key,
            nullif(lower(btrim(phone_hash, e' \t')), '') as phone_key
        from silver.stg_leads_parquet
    )

    select
        snapshots._partition_date,
        snapshots.lead_number,
        leads.lead_uuid,
        coalesce(snapshots.email_key = leads.email_key, false) as email_match,
        coalesce(snapshots.phone_key = leads.phone_key, false) as phone_match
    from snapshots
    left join leads on snapshots.email_key = leads.email_key or snapshots.phone_key = leads.phone_key
"""
GOLD = "select _partition_date, lead_number, lead_uuid, email_match, phone_match from gold.lead_quality_matching"

HASHES = ("a1", "b2", "v3", "4v", "e5", "f6")
"""So few that leads share them, and that one's e-mail hash is another's phone hash. (`v` was once trimmed away.)"""
NO_HASH = ("", " ", "\t", "nan", "None", "-")


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse for all these tests: each fills it anew."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


def fill(bucket: Bucket, chance: random.Random, *, days: int, rows: int, leads: int) -> None:
    """Upload random snapshots and leads in which hashes collide all the time."""

    def crm_hash() -> str:
        value = chance.choice(HASHES if chance.random() < 0.8 else NO_HASH)
        return chance.choice((value, value, value.upper(), f"  {value}", f"{value}\t", f" {value.upper()} "))

    def backend_hash() -> str | None:
        value = chance.choice(HASHES)
        return chance.choice((value, value, value, value.upper(), f" {value} ", None))

    for number in range(1, days + 1):
        bucket.put_snapshot(
            number,
            [
                {
                    "LEADNUMBER": chance.choice(("", "1", "2", str(100 + row))),
                    "email_hash": crm_hash(),
                    "phone_hash": crm_hash(),
                }
                for row in range(rows)
            ],
        )
    bucket.put_leads([(f"lead {chance.randrange(leads)}", backend_hash(), backend_hash()) for _ in range(leads)])


@pytest.mark.parametrize("seed", range(6))
def test_gold_has_exactly_the_rows_of_the_literal_join(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int
) -> None:
    fill(bucket, random.Random(seed), days=3, rows=60, leads=8)
    assert run_pipeline().error is None
    literal, gold = Counter(warehouse.rows(LITERAL_JOIN)), Counter(warehouse.rows(GOLD))
    assert gold == literal
    # What makes the comparison worth something:
    assert {row[-2:] for row in gold} == {(True, True), (True, False), (False, True), (False, False)}
    assert max(gold.values()) > 1, "equal rows"
    assert gold.total() > 3 * 60, "rows that match several leads"


def test_gold_has_exactly_the_rows_of_the_literal_join_whatever_stands_in_silver(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    """Step 6 relies on no cleaning but its own: NULL, blank and upper-case hashes may stand on both sides."""
    fill(bucket, random.Random(99), days=2, rows=20, leads=4)
    assert run_pipeline().error is None
    warehouse.rows(
        """
        insert into silver.stg_leads_parquet (lead_uuid, email_hash, phone_hash)
        values
            ('n1', null, null), ('n2', '', ' '), ('n3', ' A1', null), ('n4', null, 'B2 '),
            ('n5', 'V3', '4V'), ('n5', 'v3', '4v')
        """
    )
    warehouse.rows(
        """
        insert into silver.stg_csv_snapshots (lead_number, email_hash, phone_hash, _partition_date)
        values
            (1001, null, null, '2024-10-01'), (1002, '', '', '2024-10-01'), (1003, ' ', null, '2024-10-01'),
            (1004, 'a1', 'B2', '2024-10-02'), (1005, null, ' 4V', '2024-10-02'), (1006, 'V3 ', '', '2024-10-02')
        """
    )
    assert run_pipeline(only_step=6, full_refresh=True).error is None
    gold = Counter(warehouse.rows(GOLD))
    assert gold == Counter(warehouse.rows(LITERAL_JOIN))
    matched = {number for _, number, uuid, *_ in gold if uuid is not None}
    assert matched >= {1004, 1005, 1006}
    assert matched.isdisjoint({1001, 1002, 1003}), "no hash matches no hash"


# --- Scenarios, one by one --------------------------------------------------------------------------------------------

LEADS = [
    # lead_UUID, phone hash, e-mail hash
    ("anna", "p-anna", "e-anna"),
    ("bert", "p-bert", "e-bert"),
    ("twin 1", "p-twin", "e-twin 1"),
    ("twin 2", "p-twin", "e-twin 2"),
    ("mixed up", "e-anna", "p-bert"),
]

SCENARIOS: dict[str, tuple[tuple[str, str], list[tuple[Any, ...]]]] = {
    # (e-mail hash, phone hash) of the snapshot row → lead_uuid, email_match, phone_match of its gold rows
    "both": (("e-anna", "p-anna"), [("anna", True, True)]),
    "e-mail only": (("e-anna", "p-nobody"), [("anna", True, False)]),
    "e-mail only, without a phone": (("e-anna", ""), [("anna", True, False)]),
    "phone only": (("e-nobody", "p-anna"), [("anna", False, True)]),
    "phone only, without an e-mail": (("", "p-anna"), [("anna", False, True)]),
    "the e-mail of one lead, the phone of another": (
        ("e-anna", "p-bert"),
        [("anna", True, False), ("bert", False, True)],
    ),
    "two leads with one phone": (("", "p-twin"), [("twin 1", False, True), ("twin 2", False, True)]),
    "two leads with one phone, one of them with the e-mail": (
        ("e-twin 2", "p-twin"),
        [("twin 1", False, True), ("twin 2", True, True)],
    ),
    "the columns exchanged": (("p-bert", "e-anna"), [("mixed up", True, True)]),
    "no lead": (("e-nobody", "p-nobody"), [(None, False, False)]),
    "no hash": (("", "  "), [(None, False, False)]),
    "upper case and padded": (("  E-ANNA ", "\tP-Anna"), [("anna", True, True)]),
}


def test_each_scenario_matches_the_right_leads_with_truthful_flags(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    bucket.put_leads(LEADS)
    numbered = dict(enumerate(SCENARIOS, start=1))
    bucket.put_snapshot(
        1,
        [
            {"LEADNUMBER": str(number), "email_hash": SCENARIOS[name][0][0], "phone_hash": SCENARIOS[name][0][1]}
            for number, name in numbered.items()
        ],
    )
    bucket.put_snapshot(2, [{"email_hash": "", "phone_hash": ""}])
    assert run_pipeline().error is None
    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in SCENARIOS}
    for number, *match in warehouse.rows(
        "select lead_number, lead_uuid, email_match, phone_match from gold.lead_quality_matching "
        "where _partition_date = '2024-10-01' order by lead_number, lead_uuid"
    ):
        found[numbered[number]].append(tuple(match))
    assert found == {name: matches for name, (_, matches) in SCENARIOS.items()}


# --- Grades -----------------------------------------------------------------------------------------------------------

GRADES = [
    # Set, Demo → appointment_scheduled, demo_scheduled, lead_quality_flag
    ("1", "1", True, True, "High Quality"),
    ("1", "0", True, False, "Medium Quality"),
    ("1", "", True, False, "Medium Quality"),
    ("0", "1", False, True, "Low Quality"),
    ("0", "0", False, False, "Low Quality"),
    ("0", "", False, False, "Low Quality"),
    ("", "1", False, True, "Low Quality"),
    ("", "0", False, False, "Low Quality"),
    ("", "", False, False, "Low Quality"),
    ("True", "True", True, True, "High Quality"),
    ("1", "False", True, False, "Medium Quality"),
    ("False", "True", False, True, "Low Quality"),
]


def test_set_and_demo_make_the_flags_and_the_grade(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads(LEADS)
    bucket.put_snapshot(
        1, [{"LEADNUMBER": str(number), "Set": set_, "Demo": demo} for number, (set_, demo, *_) in enumerate(GRADES)]
    )
    assert run_pipeline().error is None
    as_number = {"": None, "0": 0, "1": 1, "False": 0, "True": 1}
    assert warehouse.rows(
        "select set, demo, appointment_scheduled, demo_scheduled, lead_quality_flag, conversion_rate "
        "from gold.lead_quality_matching where _partition_date = '2024-10-01' order by lead_number"
    ) == [(as_number[set_], as_number[demo], *grade, None) for set_, demo, *grade in GRADES]


def test_a_gold_row_has_the_cells_of_its_silver_row(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads(LEADS)
    padded = {"email_hash": " E-Anna", "CITY": "Boise  ", "ZIP": "083701-1234", "STATE": "nu", "location": " Reno | NV"}
    bucket.put_snapshot(1, [padded], header=[*HEADER, "location"])
    assert run_pipeline().error is None
    shared = """
        lead_number, email_hash, phone_hash, city, state, zip, appt_date::text, set, demo, dispo, job_status, location,
        _partition_date::text, _extraction_date
    """
    day = "where _partition_date = '2024-10-01'"
    (silver,) = warehouse.rows(f"select {shared} from silver.stg_csv_snapshots {day}")
    (gold,) = warehouse.rows(f"select {shared} from gold.lead_quality_matching {day}")
    assert gold == silver
    assert gold[:6] == (1, " E-Anna", "p1", "Boise  ", "NV", "83701")
    assert gold[6:-1] == ("2022-12-13 00:00:00", 1, 0, "Data", None, "Reno | NV", "2024-10-01")
