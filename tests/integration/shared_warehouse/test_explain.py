"""`--explain LEAD` shows what each layer says about a lead, and where it comes from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from psycopg2 import sql
from pydantic import SecretStr
from support import Bucket, Warehouse, drop_schemas, environment_of, run_python

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.reporting import explain as explain_module
from etl.reporting.explain import Explanation, LeadHistory, explain
from etl.reporting.explain_tables import tables
from etl.utils.errors import CheckFailedError, LeadNotFoundError, PostgresError
from etl.utils.utils_connection import Settings
from etl.warehouse.gold_models import GRADE
from etl.warehouse.row_versions import COLUMNS
from etl.warehouse.sql_scripts import script_text
from etl.warehouse.transactions import transaction

Run = Callable[..., RunReport]
SHARED = {"email_hash": "shared", "phone_hash": "", "Appt Date": ""}
HEADER = "ENTRYDATE,LEADNUMBER,email_hash,phone_hash,CITY,STATE,ZIP,Appt Date,Set,Demo,Dispo,Job Status,location".split(
    ","
)


@pytest.fixture(scope="module")
def filled(settings: Settings) -> Settings:
    """Load three days. Lead 501 changes on day 3; on day 2 its number is a float, and a row of it is rejected."""
    drop_schemas(settings)
    bucket = Bucket(settings)
    bucket.clear()
    lead = {"LEADNUMBER": "501", "email_hash": "E1 ", "ZIP": "098311", "STATE": "nu", "CITY": "  ", "Set": "TRUE"}
    shared = [{**SHARED, "LEADNUMBER": str(number)} for number in (701, 702)]
    first = {"LEADNUMBER": "500", "email_hash": "e3", "phone_hash": "p3"}
    unmatched = {"LEADNUMBER": "0600", "email_hash": "e6 ", "phone_hash": "p6"}
    without_number = {"LEADNUMBER": "", "email_hash": "e7", "phone_hash": "p7"}
    of_same_person = {"LEADNUMBER": "902", "email_hash": "E6\t", "phone_hash": "p9", "Demo": "perhaps"}
    rejected = {"LEADNUMBER": "900", "email_hash": "e8", "phone_hash": "p8", "Demo": "perhaps"}
    for number, changes in ((1, {}), (2, {"LEADNUMBER": "501.0"}), (3, {"Demo": "1", "Dispo": "Sale"})):
        rows = [first, lead | changes, *shared, unmatched, rejected]
        if number == 2:
            rows = [*shared, first, {**lead, "Set": "maybe"}, lead | changes, lead | changes]
        bucket.put_snapshot(number, [*rows, without_number, of_same_person], HEADER)
    bucket.put("SFTP/data_3.csv", bucket.get("SFTP/data_3.csv") + b"02/05/2023,950123,\x1b[31mtoo,few,77777,\n")
    bucket.put_leads(
        [("u1", "p1", "e1"), ("u2", "p1", "e2"), ("u3", "p3", "e3"), ("never seen", "p9", "e9")]
        + [(f"shared {number:02}", f"s{number}", "shared") for number in range(12)]
    )
    report = run_steps(settings, choose_steps())
    assert report.error is None
    return settings


def only(explanation: Explanation) -> LeadHistory:
    (history,) = explanation.histories
    return history


def test_history_has_versions_with_file_line_and_grade(filled: Settings) -> None:
    history = only(explain(filled, "u1"))
    assert history.title == "lead u1"
    assert [(row["lead_uuid"], row["email_hash"], row["phone_hash"]) for row in history.backend] == [("u1", "e1", "p1")]
    first, second = history.versions
    assert (first.first_day, first.last_day, first.day_count) == (date(2024, 10, 1), date(2024, 10, 2), 2)
    assert (second.first_day, second.last_day, second.day_count) == (date(2024, 10, 3), date(2024, 10, 3), 1)
    assert first.first_row is not None
    assert (first.first_row.file, first.first_row.line, first.first_row.same_content) == ("SFTP/data_1.csv", 3, 0)
    assert first.last_row is not None  # its lead number is a float there, and the row occurs twice
    assert (first.last_row.file, first.last_row.line, first.last_row.same_content) == ("SFTP/data_2.csv", 6, 1)
    assert (first.grade, first.why, second.grade, second.why) == (
        "Medium Quality", "set 1, demo 0", "High Quality", "set 1, demo 1",
    )  # fmt: skip
    assert history.current["lead_quality_flag"] == "High Quality"
    assert first.matched_by == "e-mail, phone"
    assert first.other_leads == {"u2": "phone"}
    assert only(explain(filled, "u2")).versions[0].matched_by == "phone"
    assert [str(row["appointment_date"]) for row in history.appointments] == ["2022-12-13 13:00:00"]
    (rejected,) = history.rejected_rows
    assert (rejected["_source_file"], rejected["_source_row"]) == ("SFTP/data_2.csv", 5)
    assert rejected["reason"] == "Set is not one of 0, 1, True, False"


def test_changed_values_are_named_with_the_rule_that_changed_them(filled: Settings) -> None:
    first, _ = only(explain(filled, "u1")).versions
    assert first.first_row is not None
    assert first.last_row is not None
    assert {value.column: (value.raw, value.cleaned, value.rule) for value in first.first_row.cleaned} == {
        "entry_date": ("02/05/2023", "2023-02-05", "parse_timestamp"),
        "city": ("  ", None, "NA_VALUES"),
        "state": ("nu", "ID", "state_of"),
        "zip": ("098311", "98311", "clean_zip"),
        "appt_date": ("12/13/2022  1:00PM", "2022-12-13 13:00:00", "parse_timestamp"),
        "set": ("TRUE", "1", "as_flag"),
    }
    assert ("501.0", "501", "without_fraction") in [
        (value.raw, value.cleaned, value.rule) for value in first.last_row.cleaned
    ]


@pytest.mark.parametrize("lead", ["u1", "501", " 501 "])
def test_uuid_and_lead_number_find_the_same_history(filled: Settings, lead: str) -> None:
    found = {history.title: history for history in explain(filled, lead).histories}
    assert found["lead u1"] == only(explain(filled, "u1"))
    assert set(found) == ({"lead u1"} if lead == "u1" else {"lead u1", "lead u2"})


def test_hash_is_found_in_any_case_and_padding(filled: Settings) -> None:
    for hash_ in ("e1", "E1", " e1"):
        assert [history.title for history in explain(filled, hash_).histories] == ["lead u1"]


def test_lead_without_snapshot_and_rows_without_lead_have_a_history(filled: Settings) -> None:
    never_seen = only(explain(filled, "never seen"))
    assert (len(never_seen.backend), never_seen.versions) == (1, [])
    unmatched = only(explain(filled, "600"))
    assert only(explain(filled, "e6")) == unmatched
    assert unmatched.title == "lead number 600, which matches no backend lead"
    assert [version.matched_by for version in unmatched.versions] == ["no hash"] * 2
    changed = [
        value.column for version in unmatched.versions if version.first_row for value in version.first_row.cleaned
    ]
    assert "entry_date" in changed
    assert "lead_number" not in changed, "no rule changes 0600: PostgreSQL casts it to 600"
    assert only(explain(filled, "e7")).title == "lead without a number, which matches no backend lead"


def test_shared_hash_explains_the_first_leads_and_counts_the_others(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    explanation = explain(filled, "shared")
    assert [history.title for history in explanation.histories] == [f"lead shared {number:02}" for number in range(10)]
    assert explanation.left_out == 2
    assert {len(history.versions) for history in explanation.histories} == {2}
    monkeypatch.setattr(explain_module, "MOST_VERSIONS", 1)
    assert explain(filled, "shared 01").histories[0].notes == ["only the first 1 of 2 row versions are shown"]


def test_lead_that_is_only_rejected_is_found(filled: Settings) -> None:
    for lead, reason in (("900", "Demo is not one of 0, 1, True, False"), ("E8", "Demo is not"), ("950123", "fields")):
        history = only(explain(filled, lead))
        assert history.versions == ()
        assert reason in history.rejected_rows[0]["reason"]


def test_rejected_row_of_another_number_is_found_by_a_hash_in_any_case_and_padding(filled: Settings) -> None:
    rejected = only(explain(filled, "600")).rejected_rows
    assert [row["raw_row"]["LEADNUMBER"] for row in rejected] == ["902"] * 3


@pytest.mark.parametrize(("lead", "as_stored"), [("U1", "u1"), ("600.0", "600"), ("+600", "600")])
def test_lead_is_found_in_other_notations(filled: Settings, lead: str, as_stored: str) -> None:
    assert only(explain(filled, lead)) == only(explain(filled, as_stored))


@pytest.mark.parametrize("lead", ["nobody", "50", "77777", "", "99999999999", "e1%", "' or true --", "a\nb", "\udcff"])
def test_unknown_lead_is_one_error_with_a_hint(filled: Settings, lead: str) -> None:
    with pytest.raises(LeadNotFoundError, match="no lead ") as error:
        explain(filled, lead)
    assert error.value.exit_code == 1
    assert error.value.hint


@pytest.mark.parametrize(
    ("table", "condition"),
    [
        ("bronze.csv_snapshots", "_source_row = any(array[2, 3]::bigint[])"),
        ("silver.stg_csv_snapshots", "_row_hash = any(array[1, 2]::bigint[])"),
        ("silver.row_contents", "_row_hash = any(array[1, 2]::bigint[])"),
        ("silver.row_contents", "lead_number = 900"),
        ("silver.version_matches", "_row_hash = any(array[1, 2]::bigint[])"),
    ],
)
def test_contents_and_lead_numbers_are_found_by_index(filled: Settings, table: str, condition: str) -> None:
    plan = Warehouse(filled).rows(f"set enable_seqscan = off; explain select from {table} where {condition}")
    assert not [line for (line,) in plan if "Seq Scan" in line]


def test_versions_of_a_content_are_found_by_index(filled: Settings) -> None:
    condition = sql.SQL("_row_hash = any(array[1, 2]::bigint[])")
    with transaction(filled) as db:
        query = script_text("explain/row_versions.sql", condition=condition, columns=COLUMNS, grade=script_text(GRADE))
        db.execute(sql.SQL("set local enable_seqscan = off; explain {}").format(query))
        plan = [line for (line,) in db.fetchall()]
    assert not [line for line in plan if "Seq Scan on row_contents" in line]


@pytest.fixture
def analyst(filled: Settings) -> Iterator[Settings]:
    """Yield settings of a role that reads silver and gold, and writes nothing."""
    owner = Warehouse(filled)
    owner.rows("create role reads_silver login password 'reads-silver'")
    for schema in ("silver", "gold"):
        owner.rows(
            f"grant usage on schema {schema} to reads_silver; "
            f"grant select on all tables in schema {schema} to reads_silver"
        )
    try:
        yield filled.model_copy(
            update={"postgres_user": "reads_silver", "postgres_password": SecretStr("reads-silver")}
        )
    finally:
        for schema in ("silver", "gold"):
            owner.rows(
                f"revoke all on all tables in schema {schema} from reads_silver; "
                f"revoke all on schema {schema} from reads_silver"
            )
        owner.rows("drop role reads_silver")


def test_role_that_cannot_read_bronze_sees_the_rest(filled: Settings, analyst: Settings) -> None:
    history, complete = only(explain(analyst, "u3")), only(explain(filled, "u3"))
    assert history.notes == [
        "files, lines and raw values are left out: this role needs SELECT on bronze.csv_snapshots and "
        "meta.table_loads, and USAGE on their schemas"
    ]
    assert [version.first_row for version in history.versions] == [None] * len(complete.versions)
    assert [version.content for version in history.versions] == [version.content for version in complete.versions]
    Warehouse(filled).rows("revoke usage on schema silver from reads_silver")
    with pytest.raises(PostgresError, match="permission denied"):
        explain(analyst, "u3")


def test_json_is_one_event_per_lead(filled: Settings, tmp_path: Path) -> None:
    done = explained(filled, tmp_path, "e2", "--log-format", "json")
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (event["event"], event["lead"]["title"]) == ("lead_explained", "lead u2")
    version = event["lead"]["versions"][0]
    assert (version["first_day"], version["content"]["lead_number"]) == ("2024-10-01", 501)
    assert version["first_row"]["cleaned"][0] == {
        "column": "entry_date", "raw": "02/05/2023", "cleaned": "2023-02-05", "rule": "parse_timestamp",
    }  # fmt: skip


def test_text_has_a_table_for_each_question_and_unknown_lead_ends_with_1(filled: Settings, tmp_path: Path) -> None:
    done = explained(filled, tmp_path, "u1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nHigh Quality in its latest snapshot, 2024-10-03 (lead number 501)\n" in done.stdout
    titles = [title for title, *_ in tables(only(explain(filled, "u1")))]
    assert all(f"\n{title}" in done.stdout for title in titles)
    assert "  1  2024-10-01  2024-10-02     2  data_1.csv:3  data_2.csv:6 (+1)\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert r"950123,\x1b[31mtoo" in explained(filled, tmp_path, "950123").stdout
    done = explained(filled, tmp_path, "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no lead 'nobody'")
    assert "\n  → " in done.stderr
    for option in ("--full-refresh", "--report", "--dry-run"):
        assert "runs no step" in explained(filled, tmp_path, "u1", option).stderr


def explained(settings: Settings, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(folder, "main.py", "--explain", *arguments, environment=environment_of(settings))


@pytest.mark.parametrize(
    "change",
    [
        "update bronze.csv_snapshots set \"CITY\" = 'Elsewhere' where _partition_date = '2024-10-01'",
        "update silver.stg_csv_snapshots set city = 'Elsewhere' where _partition_date = '2024-10-01'",
        "update silver.stg_csv_snapshots set _source_row = null where lead_number = 501",
        "update meta.table_loads set built_from = '{0}' where table_name = 'silver.stg_csv_data_01'",
    ],
)
def test_raw_values_are_left_out_where_bronze_is_not_what_silver_was_built_from(filled: Settings, change: str) -> None:
    before = only(explain(filled, "u1")).versions
    with transaction(filled) as db:
        db.execute(change)
    try:
        history = only(explain(filled, "u1"))
        assert history.versions[0].first_row is None
        assert "row versions cannot be traced to bronze" in history.notes[0]
        assert [version.content for version in history.versions] == [version.content for version in before]
    finally:
        assert run_steps(filled, choose_steps(), full_refresh=True).error is None
    assert only(explain(filled, "u1")).versions == before


def test_version_whose_last_row_cannot_be_traced_is_noted(filled: Settings) -> None:
    with transaction(filled) as db:
        db.execute("update silver.stg_csv_data_03 set _source_row = null")
    try:
        history = only(explain(filled, "u3"))
        assert [(each.first_row is None, each.last_row is None) for each in history.versions] == [(False, True)]
        assert history.notes[0].startswith("1 of 1 row versions cannot be traced to bronze")
    finally:
        assert run_steps(filled, choose_steps(), full_refresh=True).error is None


def test_days_without_row_versions_are_counted(filled: Settings) -> None:
    with transaction(filled) as db:
        db.execute("delete from silver.versioned_days where _partition_date = '2024-10-03'")
    try:
        assert only(explain(filled, "u1")).notes[0].startswith("days of silver without row versions: 1 (a run")
        with pytest.raises(LeadNotFoundError, match=r"with it; days of silver without row versions: 1 \(a run is"):
            explain(filled, "nobody")
    finally:
        assert run_steps(filled, choose_steps()).error is None
    assert only(explain(filled, "u1")).notes == []


def test_empty_database_is_an_error_with_the_step_to_run(filled: Settings) -> None:
    drop_schemas(filled)
    with pytest.raises(CheckFailedError, match=r"missing tables: silver\.stg_leads_parquet"):
        explain(filled, "u1")


def test_rows_of_real_files_are_found_in_bronze(
    real_data: Path, settings: Settings, bucket: Bucket, warehouse: Warehouse
) -> None:
    drop_schemas(settings)
    bucket.clear()
    bucket.put_folder(real_data)
    assert run_steps(settings, choose_steps()).error is None
    leads = warehouse.rows(
        "(select lead_uuid from silver.version_matches where lead_uuid is not null group by 1 "
        "order by count(*) desc, 1 limit 5) "
        "union all (select lead_uuid from gold.lead_quality_current order by md5(lead_uuid) limit 15)"
    )
    for (lead,) in leads:
        history = only(explain(settings, lead))
        days = {day for version in history.versions for day in (version.first_day, version.last_day)}
        (seen,) = warehouse.rows("select first_seen, last_seen from gold.leads where lead_uuid = %s", lead)
        assert (min(days), max(days)) == seen
        rows = sum(version.day_count for version in history.versions)
        assert rows <= warehouse.value("select count(*) from gold.lead_quality_matching where lead_uuid = %s", lead)
        for version in history.versions:
            assert version.first_row is not None
            assert version.last_row is not None
            line = (real_data / version.last_row.file).read_text("utf-8").splitlines()[version.last_row.line - 1]
            assert f",{version.content['lead_number']}," in line
            assert version.last_row.day == version.last_day
        last = max(history.versions, key=lambda version: version.last_day)
        grades = {version.grade for version in history.versions if version.last_day == last.last_day}
        assert history.current["lead_quality_flag"] in grades
