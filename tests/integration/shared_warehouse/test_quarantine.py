"""Rows that cannot be loaded are quarantined, and all other rows are loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from loads import (
    put_leads,
)
from support import HEADER, ORDINARY_ROW, Bucket, Warehouse

from etl.console.summary import summary_lines
from etl.engine.run_report import RunReport
from etl.utils.utils_checks_db import REJECTED_ROWS_ARE_KEPT
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import current_loads
from etl.warehouse.transactions import transaction

Run = Callable[..., RunReport]

pytestmark = pytest.mark.usefixtures("emptied")


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


def test_rejected_rows_are_a_warning_unless_they_are_footers(
    bucket: Bucket, run_pipeline: Run, caplog: pytest.LogCaptureFixture
) -> None:
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), "Total: 1", "," * 11)
    put_leads(bucket)
    assert run_pipeline().error is None
    assert "rejected, see" not in caplog.text
    put_lines(bucket, 2, line_of(LEADNUMBER="1"), "02/05/2023,3,e3", line_of(LEADNUMBER="x"), "Total: 2")
    assert run_pipeline().error is None
    (of_file, of_day) = (message for message in caplog.messages if "rejected, see silver.rejected_rows" in message)
    assert of_file.endswith("data_2.csv: 1 rejected, see silver.rejected_rows: too few fields: 3 instead of 12 (1)")
    assert of_day == "2024-10-02: 1 rejected, see silver.rejected_rows: LEADNUMBER is not a 32-bit integer (1)"


def test_summary_counts_rejected_rows_by_reason(bucket: Bucket, run_pipeline: Run) -> None:
    invalid = [line_of(Set="2", LEADNUMBER=str(number)) for number in (1, 2)]
    put_lines(bucket, 1, "02/05/2023,3,e3", *invalid, line_of(Demo="perhaps"), line_of(LEADNUMBER="4"))
    put_leads(bucket)
    lines = [f"{line.label}{line.text}" for line in summary_lines(run_pipeline())]
    flags = "is not one of 0, 1, True, False"
    assert f"rejected_rows  2 Set {flags} · 1 too few fields: 3 instead of 12 · 1 Demo {flags}" in lines


INVALID_CELLS = [
    ({"LEADNUMBER": "12a"}, "LEADNUMBER"),
    ({"LEADNUMBER": "2147483648"}, "LEADNUMBER"),
    ({"LEADNUMBER": "1.5"}, "LEADNUMBER"),
    ({"Set": "2"}, "Set"),
    ({"Demo": "yes"}, "Demo"),
    ({"CITY": "x" * 101}, "city"),
    ({"Dispo": "x" * 51}, "dispo"),
    ({"Job Status": "x" * 101}, "job_status"),
    ({"email_hash": "x" * 256}, "email_hash"),
    ({"phone_hash": "ü" * 256}, "phone_hash"),
    ({"Appt Date": "nu"}, "APPT_DATE"),
]


def test_invalid_rows_are_quarantined_and_the_rest_is_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    bronze_names = {"Appt Date": "APPT_DATE", "Job Status": "JOB_STATUS"}
    bucket.put_snapshot(1, [{"LEADNUMBER": "70"}, *(cells for cells, _ in INVALID_CELLS), {"LEADNUMBER": "71"}])
    put_leads(bucket)
    assert run_pipeline().error is None
    rejected = warehouse.rows(REJECTED)
    assert [row[:3] for row in rejected] == [
        ("SFTP/data_1.csv", line, "2024-10-01") for line in range(3, 3 + len(INVALID_CELLS))
    ]
    for (cells, column), (*_, reason, raw) in zip(INVALID_CELLS, rejected, strict=True):
        assert column in reason
        ((name, value),) = cells.items()
        assert raw[bronze_names.get(name, name)] == value
        assert raw["ENTRYDATE"] == ORDINARY_ROW["ENTRYDATE"], "the whole row is kept"
    assert warehouse.rows("select lead_number from silver.stg_csv_snapshots order by 1") == [(70,), (71,)]
    assert warehouse.value("select count(*) from gold.lead_quality_matching") == 2


def test_longest_and_largest_valid_values_are_loaded(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
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


def test_row_with_nul_byte_is_quarantined_and_the_rest_is_loaded(
    bucket: Bucket, run_pipeline: Run, warehouse: Warehouse
) -> None:
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), line_of(LEADNUMBER="2", CITY="Boi\0se"), line_of(LEADNUMBER="3"))
    put_leads(bucket)
    assert run_pipeline().error is None
    ((_, line, _, reason, raw),) = warehouse.rows(REJECTED)
    assert (line, reason) == (3, "NUL byte")
    assert raw["line"].startswith("02/05/2023,2,")
    assert warehouse.rows("select lead_number from silver.stg_csv_snapshots order by 1") == [(1,), (3,)]


def test_corrected_file_removes_its_rejected_rows(bucket: Bucket, run_pipeline: Run, warehouse: Warehouse) -> None:
    put_lines(bucket, 1, line_of(LEADNUMBER="1"), "02/05/2023,2,e2", line_of(LEADNUMBER="three"))
    put_lines(bucket, 2, line_of(LEADNUMBER="1"), line_of(LEADNUMBER="two"))
    put_leads(bucket)
    run_pipeline()
    assert len(warehouse.rows(REJECTED)) == 3
    put_lines(bucket, 1, *(line_of(LEADNUMBER=number) for number in "123"))
    assert run_pipeline().error is None
    assert [row[0] for row in warehouse.rows(REJECTED)] == ["SFTP/data_2.csv"]
    assert warehouse.value("select count(*) from gold.lead_quality_matching where _partition_date = '2024-10-01'") == 3


def test_rejected_rows_are_counted_with_their_index(run_pipeline: Run, settings: Settings) -> None:
    """With a sequential scan per day, the time of a run would grow with the square of the number of days."""
    assert run_pipeline(only_step=1).error is None
    with transaction(settings) as db:
        db.execute("set local enable_seqscan = off")
        db.execute(f"explain {REJECTED_ROWS_ARE_KEPT.failing_rows_sql}")
        plan = str(db.fetchall())
        assert "rejected_rows_by_day" in plan
        assert "Index Cond" in plan
        current_loads(db, "bronze.csv_snapshots", rejects_of_step=2)
        assert db.query
        db.execute(b"explain " + db.query)
        plan = str(db.fetchall())
        assert "rejected_rows_by_day" in plan
        assert "Index Cond" in plan
