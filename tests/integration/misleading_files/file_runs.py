"""Put files into the bucket, run the pipeline, check that it refuses them."""

from __future__ import annotations

import pytest
from support import CASES, HEADER, ORDINARY_ROW, Bucket

from etl.engine.run_report import RunReport
from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings

Row = dict[str, str]


def run(settings: Settings, *, full_refresh: bool = False) -> RunReport:
    return run_steps(settings, choose_steps(), full_refresh=full_refresh)


def put_case(bucket: Bucket, name: str) -> None:
    folder = CASES / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bucket.put_folder(folder)


def leads(count: int, **cells: str) -> list[Row]:
    return [{"LEADNUMBER": str(n), "email_hash": f"e{n}", "phone_hash": f"p{n}"} | cells for n in range(1, count + 1)]


def put_leads(bucket: Bucket, count: int = 5) -> None:
    bucket.put_leads([(f"lead {n}", f"p{n}", f"e{n}") for n in range(1, count + 1)])


def csv_of(rows: list[Row]) -> bytes:
    lines = [HEADER, *([(ORDINARY_ROW | row).get(name, "") for name in HEADER] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def assert_refused(report: RunReport, *named: str) -> None:
    assert report.exit_code == 2, report.error
    message = str(report.error)
    assert "\n  → " in message
    for name in named:
        assert name in message
