"""SQL in file names, headers and cells is loaded as text, and never executed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

import pytest
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.reporting.explain import explain
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

DROP = "drop table canary"
ATTACKS = [
    f"'; {DROP}; --",
    f"\\'; {DROP}; --",
    f'"; {DROP}; --',
    f"'); {DROP}; --",
    f'"); {DROP}; --',
    f"$$; {DROP}; $$",
    f"1; {DROP}",
    f"\\.\n{DROP};",
    f"x\ncommit; {DROP}; --",
    "' || pg_sleep(600) || '",
    "{target} {rows} {0} {}",
    "%s %(key)s %% %",
    "\\copy gold.leads to program 'false'",
    f"*/ {DROP}; /*",
]
TEXT_COLUMNS = ("email_hash", "phone_hash", "CITY", "Dispo", "Job Status", "location")


@pytest.fixture(autouse=True)
def canary(warehouse: Warehouse) -> Iterator[None]:
    """Create a table that most of the attacks would drop."""
    warehouse.rows("create table public.canary as select 'alive' as state")
    yield
    assert warehouse.rows("table public.canary") == [("alive",)]
    warehouse.rows("drop table public.canary")


def put_csv(bucket: Bucket, key: str, header: list[str], rows: list[list[str]]) -> None:
    sink = io.StringIO()
    csv.writer(sink).writerows([header, *rows])
    bucket.put(key, sink.getvalue().encode())


def test_sql_in_text_cells_is_loaded_as_text(
    bucket: Bucket, warehouse: Warehouse, run_pipeline: Callable[..., RunReport]
) -> None:
    header = [*HEADER, "location"]
    rows = [
        [(ORDINARY_ROW | dict.fromkeys(TEXT_COLUMNS, attack) | {"LEADNUMBER": str(n)})[name] for name in header]
        for n, attack in enumerate(ATTACKS)
    ]
    put_csv(bucket, "SFTP/data_1.csv", header, rows)
    bucket.put_leads([(f"lead {n} {attack}", attack, attack) for n, attack in enumerate(ATTACKS)])
    assert run_pipeline().error is None
    columns = "email_hash, phone_hash, city, location"
    gold = warehouse.rows(f"select lead_number, {columns} from gold.lead_quality_matching order by 1")
    assert gold == [(n, *[attack] * 4) for n, attack in enumerate(ATTACKS)]
    matched = warehouse.rows("select lead_uuid from gold.leads order by lead_number")
    assert matched == [(f"lead {n} {attack}",) for n, attack in enumerate(ATTACKS)]
    dispositions = warehouse.rows("select dispo from gold.lead_quality_matching order by lead_number")
    assert dispositions == [(attack,) for attack in ATTACKS], "all of them fit into 50 characters"


def test_sql_in_ids_is_not_executed_when_a_lead_is_explained(
    settings: Settings, bucket: Bucket, run_pipeline: Callable[..., RunReport]
) -> None:
    rows = [
        [(ORDINARY_ROW | {"LEADNUMBER": str(n), "email_hash": attack})[name] for name in HEADER]
        for n, attack in enumerate(ATTACKS)
    ]
    put_csv(bucket, "SFTP/data_1.csv", list(HEADER), rows)
    bucket.put_leads([(attack, f"p {n}", attack) for n, attack in enumerate(ATTACKS)])
    assert run_pipeline().error is None
    for n, attack in enumerate(ATTACKS):
        for lead in (attack, str(n)):
            (history,) = explain(settings, lead).histories
            assert history.title == f"lead {attack}"


def test_sql_in_typed_cells_is_rejected_or_null(
    bucket: Bucket, warehouse: Warehouse, run_pipeline: Callable[..., RunReport]
) -> None:
    columns = ("LEADNUMBER", "Set", "Demo")
    rows = [[(ORDINARY_ROW | {column: attack})[name] for name in HEADER] for column in columns for attack in ATTACKS]
    dates = [
        [(ORDINARY_ROW | {column: attack, "LEADNUMBER": "7"})[name] for name in HEADER]
        for column in ("ENTRYDATE", "Appt Date", "STATE", "ZIP")
        for attack in ATTACKS
    ]
    put_csv(bucket, "SFTP/data_1.csv", list(HEADER), rows + dates)
    bucket.put_leads([("lead", "p1", "e1")])
    assert run_pipeline().error is None
    rejected = warehouse.rows("select raw_row from silver.rejected_rows order by _source_row")
    assert [attack for _ in columns for attack in ATTACKS] == [
        next(value for value in row.values() if value in ATTACKS) for (row,) in rejected
    ]
    assert warehouse.value("select count(*) from gold.lead_quality_matching where lead_number = 7") == len(dates)


def test_sql_in_headers_is_kept_as_text(
    bucket: Bucket, warehouse: Warehouse, run_pipeline: Callable[..., RunReport]
) -> None:
    row = [ORDINARY_ROW[name] for name in HEADER]
    put_csv(bucket, "SFTP/data_1.csv", [*HEADER, *ATTACKS], [[*row, *(f"kept {n}" for n, _ in enumerate(ATTACKS))]])
    bucket.put_leads([("lead", "p1", "e1")])
    assert run_pipeline().error is None
    extra = {attack: f"kept {n}" for n, attack in enumerate(ATTACKS)}
    assert warehouse.rows("select _extra from bronze.csv_snapshots") == [(extra,)]
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 1


def test_sql_in_file_names_is_kept_as_text(settings: Settings, bucket: Bucket, warehouse: Warehouse) -> None:
    attack = "/".join(attack for attack in ATTACKS if attack.isprintable())  # the S3 server accepts no other names
    csv_key, parquet_key = f"{attack}/data_1.csv", f"{attack}/leads.parquet"
    named = settings.model_copy(
        update={"s3_sftp_files_prefix": csv_key.removesuffix("1.csv"), "s3_parquet_file": parquet_key}
    )
    row = [ORDINARY_ROW[name] for name in HEADER]
    put_csv(bucket, csv_key, list(HEADER), [row, [*row, "one too many"]])
    put_csv(bucket, f"{attack}/data_1{ATTACKS[0]}.csv", list(HEADER), [row])  # ignored: not a file number
    bucket.put_leads([("lead", "p1", "e1")])
    bucket.put(parquet_key, bucket.get("parquet/leads.parquet"))
    report = run_steps(named, STEPS)
    close_connections()
    assert report.error is None
    assert warehouse.rows("select _source_file from bronze.csv_snapshots") == [(csv_key,)]
    assert warehouse.rows("select _source_file from silver.rejected_rows") == [(csv_key,)]
    keys = warehouse.rows("select s3_key from meta.ingested_files order by partition_date nulls last")
    assert keys == [(csv_key,), (parquet_key,)]
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 1
