"""Queries of the analysis: all of one moment, and about the right rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from support import WAITING_SESSIONS, Bucket, Warehouse, connection_arguments

from etl.engine.run_report import RunReport
from etl.reporting.analysis import analyse_gold
from etl.reporting.reading import reading
from etl.utils.utils_connection import Settings

Run = Callable[..., RunReport]


@pytest.mark.usefixtures("loaded")
def test_figures_are_those_of_the_publication_for_which_the_first_query_waits(
    settings: Settings, warehouse: Warehouse
) -> None:
    notes: list[str] = []

    def read_figures() -> None:
        with reading(settings) as read:
            read("match_scenarios")
            notes.extend(read("accepted_changes")["note"])

    reader = threading.Thread(target=read_figures)
    with closing(psycopg2.connect(**connection_arguments(settings))) as publication, publication.cursor() as db:
        db.execute("lock table gold.lead_quality_matching in access exclusive mode")
        reader.start()
        while reader.is_alive() and not warehouse.rows(WAITING_SESSIONS):
            time.sleep(0.02)
        db.execute("insert into meta.accepted_changes values ('rows', '2024-10-01', 'published together')")
        publication.commit()
        reader.join()
    assert notes == ["published together"]


@pytest.mark.usefixtures("loaded")
def test_last_run_is_one_that_read_files_and_published_gold(settings: Settings, warehouse: Warehouse) -> None:
    def sentences() -> tuple[str, str]:
        with reading(settings) as read:
            answers = analyse_gold(read)
        return answers["refused_files"].sentence, answers["freshness"].rows.set_index("aspect")["state"]["last run"]

    add_run = (
        "insert into meta.pipeline_runs (run_id, version, started_at, ended_at, arguments, status, message) "
        "select gen_random_uuid(), '1', now() + %s * interval '1 s', now() + %s * interval '1 s', %s, %s, %s"
    )
    assert sentences() == ("The last run refused no file.", "ok")
    warehouse.rows(add_run, 1, 1, '{"steps": [1, 2, 3, 4, 5, 6]}', "refused", "data_3.csv")
    warehouse.rows(add_run, 2, 2, '{"steps": [5]}', "complete", None)
    assert sentences() == ("The last run refused data: data_3.csv", "attention")
    for second in range(3, 15):
        warehouse.rows(add_run, second, second, '{"steps": [5]}', "complete", None)
    assert sentences() == ("The last run refused data: data_3.csv", "attention")
    warehouse.rows(add_run, 15, 15, '{"steps": [6]}', "complete", None)
    assert sentences() == ("The last run refused data: data_3.csv", "ok")


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize(("row_count", "is_tested"), [(49, False), (50, True)])
def test_freshness_says_whether_days_have_too_few_rows_to_be_tested(
    bucket: Bucket, run_pipeline: Run, settings: Settings, row_count: int, *, is_tested: bool
) -> None:
    bucket.put_snapshot(1, [{"LEADNUMBER": str(number), "email_hash": f"e{number}"} for number in range(row_count)])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run_pipeline().error is None
    with reading(settings) as read:
        sentence = analyse_gold(read)["freshness"].sentence
    assert ("Days of fewer than 50 rows are not tested." in sentence) != is_tested


@pytest.mark.usefixtures("emptied")
def test_lead_whose_other_row_matches_by_a_suspect_hash_does_not_rely_on_it(
    bucket: Bucket, run_pipeline: Run, settings: Settings, warehouse: Warehouse
) -> None:
    rows = [("17", "e1", "p1"), ("17", "e9", "p1"), ("18", "p1", "p8")]
    names = ("LEADNUMBER", "email_hash", "phone_hash")
    bucket.put_snapshot(1, [dict(zip(names, row, strict=True)) for row in rows])
    bucket.put_leads([("u1", "p1", "e1")])
    assert run_pipeline().error is None
    assert warehouse.rows("select email_hash from gold.suspect_matches") == [("e9",)]
    with reading(settings) as read:
        shares = read("suspect_shares").set_index("figure")
    assert shares.loc["all leads", ["lead_count", "suspect_count"]].tolist() == [1, 0]
