"""Only what is new or changed is loaded, exactly once, and nothing is lost on the way (specification §7)."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse, drop_schemas, empty_warehouse

from etl import step3_partition_and_load_all_csv, step6_insert_into_gold_tables
from etl.engine.report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings
from etl.warehouse import gold_models

Run = Callable[..., RunReport]

DAYS = {1: 5, 2: 6, 3: 7}
"""File number → rows in it."""


def rows_of_day(number: int, *, city: str = "Boise") -> list[dict[str, str]]:
    return [
        {"LEADNUMBER": str(lead), "email_hash": f"e{lead}", "phone_hash": f"p{lead}", "CITY": city}
        for lead in range(1, DAYS.get(number, 4) + 1)
    ]


def put_leads(bucket: Bucket, count: int = 4) -> None:
    bucket.put_leads([(f"lead {lead}", f"p{lead}", f"e{lead}") for lead in range(1, count + 1)])


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse and one bucket for all these tests: connecting anew takes longer than emptying them."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


@pytest.fixture(autouse=True)
def _nothing_stands_yet(settings: Settings, bucket: Bucket) -> None:
    bucket.clear()
    drop_schemas(settings)


@pytest.fixture
def loaded(bucket: Bucket, run_pipeline: Run) -> None:
    """Three days and their leads, loaded by one whole run."""
    for number in DAYS:
        bucket.put_snapshot(number, rows_of_day(number))
    put_leads(bucket)
    assert run_pipeline().error is None


def file_nodes(warehouse: Warehouse) -> dict[str, int]:
    """The file that each table's rows stand in: another one when the table was loaded again, even with equal rows."""
    return dict(
        warehouse.rows(
            """
            select inhrelid::regclass::text, pg_relation_filenode(inhrelid)
            from pg_inherits
            where inhparent in (
                'bronze.csv_snapshots'::regclass,
                'silver.stg_csv_snapshots'::regclass,
                'gold.lead_quality_matching'::regclass
            )
            union all
            select name, pg_relation_filenode(name::regclass)
            from unnest(array['bronze.leads_parquet', 'silver.stg_leads_parquet']) as name
            """
        )
    )


def tables_of(layers: Iterable[str], numbers: Iterable[int]) -> set[str]:
    names = {
        "bronze": "partitions.csv_snapshots_{:02d}",
        "silver": "silver.stg_csv_data_{:02d}",
        "gold": "partitions.lead_quality_matching_{:02d}",
    }
    return {names[layer].format(number) for layer in layers for number in numbers}


LAYERS = ("bronze", "silver", "gold")
LEADS = {"bronze.leads_parquet", "silver.stg_leads_parquet"}


def rewritten(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {table for table in before | after if before.get(table) != after.get(table)}


def metrics(report: RunReport, step: int) -> dict[str, Any]:
    (result,) = (done.result for done in report.steps if done.step.number == step)
    return dict(result.metrics)


# --- What changed, and only that --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
def test_the_tables_that_are_watched_are_all_there_are(warehouse: Warehouse) -> None:
    assert file_nodes(warehouse).keys() == tables_of(LAYERS, DAYS) | LEADS


@pytest.mark.usefixtures("loaded")
def test_an_unchanged_rerun_loads_nothing(run_pipeline: Run, warehouse: Warehouse) -> None:
    contents, nodes = warehouse.contents(), file_nodes(warehouse)
    for _ in range(2):
        report = run_pipeline()
        assert report.error is None
        assert [(done.result.rows_in, done.result.rows_out) for done in report.steps] == [(0, 0)] * 6
        assert metrics(report, 2)["files"]["skipped"] == len(DAYS) + 1
        assert rewritten(nodes, file_nodes(warehouse)) == set()
        assert warehouse.contents() == contents


@pytest.mark.usefixtures("loaded")
def test_a_changed_file_rewrites_its_own_day_and_no_other(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    nodes = file_nodes(warehouse)
    bucket.put_snapshot(2, [*rows_of_day(2, city="Reno"), {"LEADNUMBER": "99"}])
    report = run_pipeline()
    assert report.error is None
    assert metrics(report, 2)["files"] == {"new": 0, "changed": 1, "skipped": 3, "refused": 0}
    assert rewritten(nodes, file_nodes(warehouse)) == tables_of(LAYERS, [2])
    for table in ("silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        rows = warehouse.rows(f"select _partition_date::text, city, count(*) from {table} group by 1, 2 order by 1, 2")
        assert rows == [
            ("2024-10-01", "Boise", 5),
            ("2024-10-02", "Boise", 1),
            ("2024-10-02", "Reno", 6),
            ("2024-10-03", "Boise", 7),
        ]


@pytest.mark.usefixtures("loaded")
def test_a_file_uploaded_again_with_equal_content_is_not_loaded_again(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    nodes = file_nodes(warehouse)
    bucket.put_snapshot(2, rows_of_day(2))
    run_pipeline()
    assert rewritten(nodes, file_nodes(warehouse)) == set()


@pytest.mark.usefixtures("loaded")
def test_new_leads_rebuild_the_days_of_gold_that_match_them_and_no_silver_day(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    nodes = file_nodes(warehouse)
    unmatched = "select count(*) from gold.lead_quality_matching where lead_uuid is null"
    assert warehouse.value(unmatched) > 0
    put_leads(bucket, 7)
    assert run_pipeline().error is None
    assert rewritten(nodes, file_nodes(warehouse)) == tables_of(["gold"], DAYS) | LEADS
    assert warehouse.value(unmatched) == 0


@pytest.mark.usefixtures("loaded")
def test_file_23_and_file_400_load_without_a_change(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    nodes = file_nodes(warehouse)
    bucket.put_snapshot(23, rows_of_day(23))
    bucket.put_snapshot(400, rows_of_day(400))
    report = run_pipeline()
    assert report.error is None
    assert metrics(report, 2)["files"]["new"] == 2
    assert rewritten(nodes, file_nodes(warehouse)) == tables_of(LAYERS, [23, 400])
    for table, day in (("silver.stg_csv_data_23", "2024-10-23"), ("silver.stg_csv_data_400", "2025-11-04")):
        assert warehouse.rows(f"select distinct _partition_date from {table}") == [(datetime.date.fromisoformat(day),)]
        for layer in ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching"):
            assert warehouse.value(f"select count(*) from {layer} where _partition_date = %s", day) == 4


@pytest.mark.usefixtures("loaded")
def test_a_file_gone_from_s3_keeps_its_day(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    contents, nodes = warehouse.contents(), file_nodes(warehouse)
    bucket.client.delete_object(Bucket=bucket.name, Key="SFTP/data_2.csv")
    assert run_pipeline().error is None
    assert rewritten(nodes, file_nodes(warehouse)) == set()
    assert "SFTP/data_2.csv no longer exists" in caplog.text
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents


@pytest.mark.usefixtures("loaded")
def test_a_full_refresh_loads_everything_again_and_leaves_equal_contents(
    run_pipeline: Run, warehouse: Warehouse
) -> None:
    contents, nodes = warehouse.contents(), file_nodes(warehouse)
    assert run_pipeline(full_refresh=True).error is None
    assert rewritten(nodes, file_nodes(warehouse)) == nodes.keys()
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


# --- Another version of the cleaning code -----------------------------------------------------------------------------

CODE_VERSIONS = "select distinct code_version from meta.table_loads where table_name like 'silver.stg%'"
LOADS_OF_BRONZE = "select table_name, load_id from meta.table_loads where parent_table like 'bronze.%' order by 1"


def change_cleaning_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step3_partition_and_load_all_csv, "cleaning_code_version", lambda: "other code")


@pytest.mark.usefixtures("loaded")
def test_other_cleaning_code_cleans_all_days_again_and_loads_nothing_into_bronze(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, nodes, bronze = warehouse.contents(), file_nodes(warehouse), warehouse.rows(LOADS_OF_BRONZE)
    change_cleaning_code(monkeypatch)
    report = run_pipeline()
    assert report.error is None
    assert metrics(report, 3)["days"]["cleaned"] == len(DAYS)
    rewritten_tables = rewritten(nodes, file_nodes(warehouse))
    assert rewritten_tables >= tables_of(["silver"], DAYS) | {"silver.stg_leads_parquet"}
    assert not rewritten_tables & (tables_of(["bronze"], DAYS) | {"bronze.leads_parquet"})
    assert warehouse.rows(LOADS_OF_BRONZE) == bronze
    assert warehouse.contents() == contents
    assert warehouse.rows(CODE_VERSIONS) == [("other code",)]

    nodes = file_nodes(warehouse)
    assert run_pipeline().error is None
    assert rewritten(nodes, file_nodes(warehouse)) == set()


@pytest.mark.usefixtures("loaded")
def test_silver_without_a_recorded_code_version_is_cleaned_again(warehouse: Warehouse, settings: Settings) -> None:
    assert warehouse.rows(CODE_VERSIONS) == [(step3_partition_and_load_all_csv.cleaning_code_version(),)]
    warehouse.rows(
        "update meta.table_loads set code_version = null; update silver.stg_csv_snapshots set _row_hash = null"
    )
    warehouse.rows("update meta.table_loads set changed = false")
    without_s3 = settings.model_copy(update={"aws_endpoint_url_s3": "http://127.0.0.1:9"})
    assert run_steps(without_s3, choose_steps(from_step=3)).error is None
    assert warehouse.value("select count(*) from silver.stg_csv_snapshots where _row_hash is null") == 0
    assert warehouse.rows(CODE_VERSIONS) == [(step3_partition_and_load_all_csv.cleaning_code_version(),)]


@pytest.mark.usefixtures("loaded")
def test_days_that_other_code_has_cleaned_and_not_published_are_cleaned_again(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        change_cleaning_code(patched)
        assert run_pipeline(only_step=3).error is None
    assert warehouse.staging_tables() != []
    assert run_pipeline().error is None
    assert warehouse.staging_tables() == []
    assert warehouse.rows(CODE_VERSIONS) == [(step3_partition_and_load_all_csv.cleaning_code_version(),)]


# --- Quarantine -------------------------------------------------------------------------------------------------------


def put_lines(bucket: Bucket, number: int, *lines: str) -> None:
    bucket.put(f"SFTP/data_{number}.csv", "".join(f"{line}\n" for line in (",".join(HEADER), *lines)).encode())


def line_of(**cells: str) -> str:
    return ",".join((ORDINARY_ROW | cells)[name] for name in HEADER)


REJECTED = """
    select _source_file, _source_row, _partition_date::text, reason, raw_row
    from silver.rejected_rows
    order by _source_file, _source_row
"""


def test_ragged_lines_are_quarantined_and_the_rest_is_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    too_few, too_many = "02/05/2023,2,e2", line_of(LEADNUMBER="3") + ",more"
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), too_few, too_many, line_of(LEADNUMBER="4"))
    put_leads(bucket)
    assert run_pipeline().error is None
    assert warehouse.rows(REJECTED) == [
        ("SFTP/data_1.csv", 3, "2024-10-01", "too few fields: 3 instead of 12", {"line": too_few}),
        ("SFTP/data_1.csv", 4, "2024-10-01", "too many fields: 13 instead of 12", {"line": too_many}),
    ]
    for table in ("silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        assert warehouse.rows(f"select lead_number from {table} order by 1") == [(1,), (4,)]
    lines = warehouse.rows('select _source_row, "LEADNUMBER" from bronze.csv_snapshots order by 1')
    assert lines == [(2, "1"), (5, "4")]


UNTYPABLE = [
    ({"LEADNUMBER": "12a"}, "LEADNUMBER"),
    ({"LEADNUMBER": "2147483648"}, "LEADNUMBER"),
    ({"LEADNUMBER": "1.0"}, "LEADNUMBER"),
    ({"Set": "2"}, "Set"),
    ({"Demo": "yes"}, "Demo"),
    ({"CITY": "x" * 101}, "city"),
    ({"Dispo": "x" * 51}, "dispo"),
    ({"Job Status": "x" * 101}, "job_status"),
    ({"email_hash": "x" * 256}, "email_hash"),
    ({"phone_hash": "ü" * 256}, "phone_hash"),
    ({"Appt Date": "nu"}, "APPT_DATE"),
]


def test_rows_that_cannot_be_typed_are_quarantined_and_the_rest_is_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    bronze_names = {"Appt Date": "APPT_DATE", "Job Status": "JOB_STATUS"}
    bucket.put_snapshot(1, [{"LEADNUMBER": "70"}, *(cells for cells, _ in UNTYPABLE), {"LEADNUMBER": "71"}])
    put_leads(bucket)
    assert run_pipeline().error is None
    rejected = warehouse.rows(REJECTED)
    assert [row[:3] for row in rejected] == [
        ("SFTP/data_1.csv", line, "2024-10-01") for line in range(3, 3 + len(UNTYPABLE))
    ]
    for (cells, column), (*_, reason, raw) in zip(UNTYPABLE, rejected, strict=True):
        assert column in reason
        ((name, value),) = cells.items()
        assert raw[bronze_names.get(name, name)] == value
        assert raw["ENTRYDATE"] == ORDINARY_ROW["ENTRYDATE"], "the whole row is kept"
    assert warehouse.rows("select lead_number from silver.stg_csv_snapshots order by 1") == [(70,), (71,)]
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 2


def test_the_longest_and_largest_values_that_fit_are_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    widest = {
        "LEADNUMBER": "2147483647",
        "email_hash": "e" * 255,
        "phone_hash": "ü" * 255,
        "CITY": "c" * 100,
        "Dispo": "d" * 50,
        "Job Status": "j" * 100,
        "location": "l" * 255,
    }
    bucket.put_snapshot(1, [widest, {"LEADNUMBER": "-2147483648"}], header=[*HEADER, "location"])
    put_leads(bucket)
    assert run_pipeline().error is None
    assert warehouse.rows(REJECTED) == []
    (_, row) = warehouse.rows(
        "select lead_number, email_hash, phone_hash, city, dispo, job_status, location "
        "from gold.lead_quality_matching order by 1"
    )
    assert row == (2**31 - 1, *list(widest.values())[1:])


def test_a_nul_byte_is_quarantined_and_the_rest_is_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), line_of(LEADNUMBER="2", CITY="Boi\0se"), line_of(LEADNUMBER="3"))
    put_leads(bucket)
    assert run_pipeline().error is None
    ((_, line, _, reason, raw),) = warehouse.rows(REJECTED)
    assert (line, reason) == (3, "NUL byte")
    assert raw["line"].startswith("02/05/2023,2,")
    assert warehouse.rows("select lead_number from silver.stg_csv_snapshots order by 1") == [(1,), (3,)]


def test_a_corrected_file_takes_its_rejected_rows_away(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), "02/05/2023,2,e2", line_of(LEADNUMBER="three"))
    put_lines(bucket, 2, line_of(LEADNUMBER="1"), line_of(LEADNUMBER="two"))
    put_leads(bucket)
    run_pipeline()
    assert len(warehouse.rows(REJECTED)) == 3
    put_lines(bucket, 1, *(line_of(LEADNUMBER=number) for number in "123"))
    assert run_pipeline().error is None
    assert [row[0] for row in warehouse.rows(REJECTED)] == ["SFTP/data_2.csv"]
    assert warehouse.value("select count(*) from gold.lead_quality_matching where _partition_date = '2024-10-01'") == 3


# --- Files without rows -----------------------------------------------------------------------------------------------

NO_ROWS = {
    "empty": b"",
    "one line end": b"\n",
    "byte order mark": b"\xef\xbb\xbf",
    "header only": ",".join(HEADER).encode(),
    "header and line end": ",".join(HEADER).encode() + b"\r\n",
}


@pytest.mark.parametrize("content", NO_ROWS.values(), ids=NO_ROWS)
def test_a_file_without_rows_is_skipped_with_a_warning(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    bucket.put_snapshot(1, rows_of_day(1))
    bucket.put("SFTP/data_2.csv", content)
    put_leads(bucket)
    assert run_pipeline().error is None
    assert [record.levelno for record in caplog.records if "SFTP/data_2.csv contains no rows" in record.message] == [
        logging.WARNING
    ]
    for layer in ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        assert warehouse.rows(f"select distinct _partition_date::text from {layer}") == [("2024-10-01",)]


@pytest.mark.usefixtures("loaded")
def test_a_file_that_lost_its_rows_keeps_its_day(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    contents, nodes = warehouse.contents(), file_nodes(warehouse)
    bucket.put("SFTP/data_2.csv", NO_ROWS["header only"])
    assert run_pipeline().error is None
    assert rewritten(nodes, file_nodes(warehouse)) == set()
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents


# --- Interrupted runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last_step", [1, 2, 3, 4, 5])
def test_a_run_that_ended_between_two_steps_is_completed_by_the_next(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, last_step: int
) -> None:
    bucket.put_snapshot(1, rows_of_day(1))
    put_leads(bucket)
    run_pipeline()
    bucket.put_snapshot(1, [*rows_of_day(1, city="Reno"), {"LEADNUMBER": "no number"}])
    bucket.put_snapshot(2, rows_of_day(2))
    put_leads(bucket, 3)
    for number in range(1, last_step + 1):
        assert run_pipeline(only_step=number).error is None
    assert bool(warehouse.staging_tables()) == (last_step == 3), "what is cleaned waits for its types"

    assert run_pipeline().error is None
    contents = warehouse.contents()
    assert warehouse.staging_tables() == []
    assert run_pipeline(full_refresh=True).error is None
    assert warehouse.contents() == contents
    assert warehouse.value("select count(*) from gold.lead_quality_matching where city = 'Reno'") == 5


@pytest.mark.usefixtures("loaded")
def test_a_file_that_changes_again_between_steps_3_and_4_arrives_as_it_is_last(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    contents = warehouse.contents()
    bucket.put_snapshot(2, rows_of_day(2, city="Reno"))
    for number in (1, 2, 3):
        run_pipeline(only_step=number)
    bucket.put_snapshot(2, rows_of_day(2))
    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


@pytest.mark.usefixtures("loaded")
def test_a_run_killed_while_gold_waits_for_its_publication_is_completed_by_the_next(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_snapshot(3, rows_of_day(3, city="Reno"))
    gold = warehouse.fingerprint("gold.lead_quality_matching")
    kill_before_publication(run_pipeline, monkeypatch)
    assert "lead_quality_matching_03" in warehouse.staging_tables()
    assert warehouse.fingerprint("gold.lead_quality_matching") == gold

    assert run_pipeline().error is None
    assert warehouse.value("select count(*) from gold.lead_quality_matching where city = 'Reno'") == 7
    assert warehouse.staging_tables() == []


@pytest.mark.usefixtures("loaded")
def test_a_refresh_of_step_6_killed_before_the_publication_leaves_nothing_behind_after_the_next_run(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = warehouse.contents()
    kill_before_publication(run_pipeline, monkeypatch, only_step=6, full_refresh=True)
    assert len([name for name in warehouse.staging_tables() if name.startswith("lead_quality_matching_")]) == len(DAYS)

    assert run_pipeline().error is None
    assert warehouse.contents() == contents
    assert warehouse.staging_tables() == []


@pytest.mark.usefixtures("loaded")
def test_days_that_an_earlier_version_of_the_code_built_are_built_again(
    run_pipeline: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = warehouse.contents()
    monkeypatch.setattr(gold_models, "code_version", lambda table: f"another version of {table}")
    assert metrics(run_pipeline(), 6)["days"] == {"published": len(DAYS)}
    assert metrics(run_pipeline(), 6)["days"] == {"published": 0}
    assert warehouse.contents() == contents


def kill_before_publication(run_pipeline: Run, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(step6_insert_into_gold_tables, "publish_gold", raise_interrupt)
        run_pipeline(**options)


def raise_interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
