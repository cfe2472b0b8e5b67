"""Readers of gold see one complete state after the other, and no error."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg2
from scenario import Story, put_version_b, run, times
from support import Bucket, Warehouse, connection_arguments

from etl.utils.utils_connection import Settings

READERS = 4
REFRESHES = times(3, 20)
ROWS = "select count(*), count(distinct _partition_date) from gold.lead_quality_matching"
SCENARIOS = "select scenario, row_count, lead_count from gold.match_scenarios order by scenario"


def test_readers_see_no_refresh(story: Story, settings: Settings) -> None:
    bucket, warehouse = Bucket(settings), Warehouse(settings)
    before = {query: {as_read(warehouse.rows(query))} for query in (ROWS, SCENARIOS)}
    seen: dict[str, set[tuple[object, ...]]] = {query: set() for query in before}
    errors: list[Exception] = []
    is_over = threading.Event()
    readers = [threading.Thread(target=read, args=(settings, seen, errors, is_over.is_set)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        put_version_b(bucket)
        assert run(settings).error is None
        complete = {query: states | {as_read(warehouse.rows(query))} for query, states in before.items()}
        for _ in range(REFRESHES - 1):
            assert run(settings, full_refresh=True).error is None
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
    assert errors == []
    assert seen == complete, "nothing but the old state and the new one, and both were seen"
    assert warehouse.contents() == story.b


def read(
    settings: Settings, seen: dict[str, set[tuple[object, ...]]], errors: list[Exception], is_over: Callable[[], bool]
) -> None:
    connection = psycopg2.connect(**connection_arguments(settings))
    connection.autocommit = True
    try:
        with connection.cursor() as db:
            while not is_over():
                for query in seen:
                    db.execute(query)
                    seen[query].add(as_read(db.fetchall()))
    except psycopg2.Error as error:
        errors.append(error)
    finally:
        connection.close()


def as_read(rows: list[tuple[object, ...]]) -> tuple[object, ...]:
    return tuple(rows)
