"""gold.lead_quality_matching has the rows of the literal `left join … on a or b` of specification §6, with grades."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import oracle
import pytest
from support import HEADER, Bucket, Warehouse

from etl.engine.run_report import RunReport
from etl.utils import transform
from etl.utils.errors import CheckFailedError

Run = Callable[..., RunReport]

GOLD = "select _partition_date, lead_number, lead_uuid, email_match, phone_match from gold.lead_quality_matching"

HASHES = ("a1", "b2", "v3", "4v", "e5", "f6")
"""Few, so that leads share hashes, and the e-mail hash of one lead is the phone hash of another one."""
NO_HASH = ("", " ", "\t", "nan", "None", "-")


def fill(bucket: Bucket, rng: random.Random, *, days: int, rows: int, leads: int) -> None:
    """Upload random snapshots and leads with frequent hash collisions."""

    def crm_hash() -> str:
        value = rng.choice(HASHES if rng.random() < 0.8 else NO_HASH)
        return rng.choice((value, value, value.upper(), f"  {value}", f"{value}\t", f" {value.upper()} "))

    def backend_hash() -> str | None:
        value = rng.choice(HASHES)
        return rng.choice((value, value, value, value.upper(), f" {value} ", None))

    for number in range(1, days + 1):
        bucket.put_snapshot(
            number,
            [
                {
                    "LEADNUMBER": rng.choice(("", "1", "2", str(100 + row))),
                    "email_hash": crm_hash(),
                    "phone_hash": crm_hash(),
                }
                for row in range(rows)
            ],
        )
    bucket.put_leads([(f"lead {rng.randrange(leads)}", backend_hash(), backend_hash()) for _ in range(leads)])


def assert_matching_equals_oracle(warehouse: Warehouse) -> None:
    """Compare with `oracle.LITERAL_JOIN`."""
    expected = oracle.expected_gold(warehouse.rows, oracle.Rules())[oracle.MATCHING]
    assert oracle.actual_gold(warehouse.rows)[oracle.MATCHING] == expected


@pytest.mark.parametrize("seed", range(6))
def test_gold_has_exactly_the_rows_of_the_literal_join(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, seed: int
) -> None:
    fill(bucket, random.Random(seed), days=3, rows=60, leads=8)
    assert run_pipeline().error is None
    assert_matching_equals_oracle(warehouse)
    gold = Counter(warehouse.rows(GOLD))
    # The data must contain all kinds of matches:
    assert {row[-2:] for row in gold} == {(True, True), (True, False), (False, True), (False, False)}
    assert max(gold.values()) > 1, "equal rows"
    assert gold.total() > 3 * 60, "rows that match several leads"


def test_gold_equals_the_literal_join_for_null_blank_and_upper_case_hashes(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    """Step 6 normalizes hashes itself: NULL, blank and upper-case hashes are allowed on both sides."""
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
    assert_matching_equals_oracle(warehouse)
    matched = {number for _, number, uuid, *_ in warehouse.rows(GOLD) if uuid is not None}
    assert matched >= {1004, 1005, 1006}
    assert matched.isdisjoint({1001, 1002, 1003}), "missing hashes do not match"


# --- Scenarios --------------------------------------------------------------------------------------------------------

LEADS = [
    # lead_UUID, phone hash, e-mail hash
    ("anna", "p-anna", "e-anna"),
    ("bert", "p-bert", "e-bert"),
    ("twin 1", "p-twin", "e-twin 1"),
    ("twin 2", "p-twin", "e-twin 2"),
    ("mixed up", "e-anna", "p-bert"),
    ("blank", "p-blank\xa0", "\u200be-blank"),
    ("no hashes", "null", "N/A"),
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
    "padded by other blanks": (("e-anna\xa0", "\u200bp-anna\u3000\ufeff"), [("anna", True, True)]),
    "padded in the backend": (("e-blank", "p-blank"), [("blank", True, True)]),
    "texts for NULL": (("NULL", " n/a"), [(None, False, False)]),
}


def test_each_scenario_matches_the_right_leads_with_the_right_flags(
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


def test_text_is_trimmed_in_gold_and_kept_in_silver(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads(LEADS)
    padded = {"CITY": " Reno\xa0", "Dispo": "Sale  ", "Job Status": "\u200bSold\t", "Appt Date": "12/13/2022  1:00PM"}
    anna = {"LEADNUMBER": "1", "email_hash": "e-anna", "phone_hash": "p-anna"}
    bucket.put_snapshot(1, [{**anna, **{name: value.strip("\u200b \xa0\t") for name, value in padded.items()}}])
    bucket.put_snapshot(2, [{**anna, **padded}])
    assert run_pipeline().error is None
    columns = "city, dispo, job_status"
    silver = warehouse.rows(f"select {columns} from silver.stg_csv_data_02")
    assert silver == [(padded["CITY"], padded["Dispo"], padded["Job Status"])]
    for table in ("lead_quality_matching", "lead_quality_current", "leads"):
        rows = warehouse.rows(f"select distinct {columns} from gold.{table} where lead_uuid = 'anna'")
        assert rows == [("Reno", "Sale", "Sold")], table
    assert warehouse.rows("select dispo, job_status from gold.lead_status_history") == [("Sale", "Sold")]
    assert warehouse.rows("select status from gold.appointments") == [("Sale",)]
    sales = "select sale_count from gold.conversion_funnel_per_day order by _partition_date limit 2"
    assert warehouse.rows(sales) == [(1,), (1,)]
    metrics = "select distinct metric from gold.daily_metrics where metric like 'dispo_share: Sale%'"
    assert warehouse.rows(metrics) == [("dispo_share: Sale",)]


def test_missing_values_of_every_column_are_a_metric(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    bucket.put_leads(LEADS)
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}, {"LEADNUMBER": "2", "ENTRYDATE": "yesterday"}])
    assert run_pipeline().error is None
    of_the_day = "from gold.daily_metrics where metric ~ '_null_share$' and _partition_date = '2024-10-01'"
    metrics = dict(warehouse.rows(f"select metric, value {of_the_day}"))
    silver = "attrelid = 'silver.stg_csv_snapshots'::regclass and attnum > 0 and attname !~ '^_'"
    columns = warehouse.rows(f"select attname from pg_attribute where {silver}")
    assert {f"{column}_null_share" for (column,) in columns} == metrics.keys()
    assert metrics["entry_date_null_share"] == 0.5


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


def test_set_and_demo_determine_flags_and_grade(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
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


def test_gold_row_has_the_cells_of_its_silver_row(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
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
    assert silver[3] == "Boise  "
    assert gold == (*silver[:3], "Boise", *silver[4:]), "gold trims cities"
    assert gold[:6] == (1, " E-Anna", "p1", "Boise", "NV", "83701")
    assert gold[6:-1] == ("2022-12-13 00:00:00", 1, 0, "Data", None, "Reno | NV", "2024-10-01")


@pytest.mark.parametrize(
    "days",
    [(("1", "2"),), (("1",), ("2",)), (("1",), ("3",), ("2",))],
    ids=["on one day", "on two days", "on days apart"],
)
@pytest.mark.usefixtures("emptied")
def test_two_lead_numbers_with_one_hash_end_the_run(
    bucket: Bucket, run_pipeline: Run, monkeypatch: pytest.MonkeyPatch, days: tuple[tuple[str, ...], ...]
) -> None:
    hashes = {"1": 1, "2": 1, "3": 3}
    monkeypatch.setattr(transform, "row_hash", lambda rows: rows["lead_number"].map(hashes).astype("int64"))
    for number, lead_numbers in enumerate(days, start=1):
        bucket.put_snapshot(number, [{"LEADNUMBER": lead_number} for lead_number in lead_numbers])
    bucket.put_leads([("lead 1", "e1", "p1")])
    error = run_pipeline().error
    assert isinstance(error, CheckFailedError)
    assert "two lead numbers have the same _row_hash, 1" in str(error)
