"""PostgreSQL loses connections, restarts or denies access: transient faults are retried, permanent ones reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_scenario import (
    APPLICATION,
    Scenario,
    assert_clear,
    assert_equals_clean_run,
    execute,
    main_process,
    run,
    seeded_rng,
)
from postgres_proxy import When, cutting_commits
from psycopg2.extensions import cursor as Cursor
from pydantic import SecretStr
from support import LONG, Warehouse, drop_schemas, times

from etl import step2_load_to_postgres, step4_data_types_postgres, step6_insert_into_gold_tables
from etl.local import embedded, postgres_cluster
from etl.utils.utils_connection import Settings
from etl.warehouse import bulk_copy, transactions
from etl.warehouse.transactions import close_connections

# --- Connections terminated by the server -----------------------------------------------------------------------------

BACKENDS = (
    "select pid from pg_stat_activity "
    f"where application_name = '{APPLICATION}' and datname = current_database() order by pid"
)


@pytest.mark.parametrize("number", range(times(3, 20)))
def test_terminated_backend_is_retried(scenario: Scenario, settings: Settings, number: int) -> None:
    rng = seeded_rng(f"terminate {number}")
    terminated: list[int] = []
    is_over = threading.Event()

    def terminate() -> None:
        time.sleep(rng.uniform(0.02, 0.25))
        while not terminated and not is_over.is_set():
            pids = [pid for (pid,) in execute(settings, BACKENDS)]
            if pids and execute(settings, f"select pg_terminate_backend({rng.choice(pids)})") == [(True,)]:
                terminated.append(pids[0])

    terminator = threading.Thread(target=terminate)
    terminator.start()
    report = run(settings)
    is_over.set()
    terminator.join()
    assert terminated
    assert report.error is None, report.error
    assert_equals_clean_run(scenario, settings)


# --- Connections lost during COMMIT -----------------------------------------------------------------------------------

COMMITS = 22
"""Number of transactions of a run from version A to version B that write."""
PUBLICATIONS = (6, 10, 21)
"""The publications of bronze, silver and gold among them."""
CUTS: list[tuple[When, int]] = [(when, number) for number in range(1, COMMITS + 1) for when in ("before", "after")]


def cuts() -> list[tuple[When, int]]:
    return CUTS if LONG else [cut for cut in CUTS if cut[1] in PUBLICATIONS]


def test_run_has_the_expected_commits_and_publications(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[int] = []
    with cutting_commits(settings.postgres_port, COMMITS + 1, "before") as cutter:

        def noting(publish: Callable[..., Any], *args: Any, **options: Any) -> Any:
            published.append(cutter.commits + 1)
            return publish(*args, **options)

        for module, name in PUBLISHERS:
            monkeypatch.setattr(module, name, partial(noting, getattr(module, name)))
        assert run(settings.model_copy(update={"postgres_port": cutter.port})).error is None
    assert (cutter.commits, tuple(published)) == (COMMITS, PUBLICATIONS)


PUBLISHERS = (
    (step2_load_to_postgres, "publish_bronze"),
    (step4_data_types_postgres, "publish_silver"),
    (step6_insert_into_gold_tables, "publish_gold"),
)


@pytest.mark.parametrize(("when", "number"), cuts())
def test_connection_lost_during_commit_is_retried(
    scenario: Scenario, settings: Settings, when: When, number: int
) -> None:
    with cutting_commits(settings.postgres_port, number, when) as cutter:
        report = run(settings.model_copy(update={"postgres_port": cutter.port}))
        assert cutter.has_cut
    assert report.error is None, report.error
    assert_equals_clean_run(scenario, settings)


def test_connection_lost_before_the_first_commit_of_a_warehouse_is_retried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction that creates meta.commit_marks is lost: the markers cannot be read afterwards."""
    drop_schemas(settings)
    write_marker = transactions.write_commit_marker

    def write_marker_and_lose_connection(db: Cursor) -> str | None:
        mark = write_marker(db)
        if mark:
            monkeypatch.undo()
            execute(settings, f"select pg_terminate_backend({db.connection.info.backend_pid})")
        return mark

    monkeypatch.setattr(transactions, "write_commit_marker", write_marker_and_lose_connection)
    report = run(settings)
    assert transactions.write_commit_marker is write_marker, "no transaction has written anything"
    assert report.error is None, report.error


def test_session_of_a_lost_client_is_terminated(scenario: Scenario, settings: Settings, tmp_path: Path) -> None:
    """The session of the lost client would keep its locks: the run terminates it."""
    with cutting_commits(settings.postgres_port, 3, "unnoticed") as cutter:
        settings_behind_proxy = settings.model_copy(update={"postgres_port": cutter.port})
        with main_process(tmp_path, settings_behind_proxy) as process:
            _, output = process.communicate(timeout=60)
        assert cutter.has_cut
        assert execute(settings, BACKENDS) == [], "the proxy still keeps the connection of the lost client"
    assert process.returncode == 0, output
    assert_equals_clean_run(scenario, settings)


# --- Restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", range(1, times(1, 6) + 1))
def test_server_restart_during_copy_is_retried(
    scenario: Scenario, settings: Settings, fault_server_root: Path, monkeypatch: pytest.MonkeyPatch, copy: int
) -> None:
    """The server stops as in a crash, after COPY has started and before it has received rows."""
    buffer_reader, calls = bulk_copy.pa.BufferReader, []

    def reader(content: Any) -> Any:
        source = buffer_reader(content)
        if not isinstance(content, bulk_copy.pa.Buffer):  # not of copy_from_frame
            return source
        calls.append(content)
        first = [len(calls) == copy]

        def read(size: int) -> bytes:
            if first and first.pop():
                restart(fault_server_root)
            return bytes(source.read(size))

        return SimpleNamespace(read=read)

    monkeypatch.setattr(bulk_copy.pa, "BufferReader", reader)
    report = run(settings)
    assert len(calls) > copy
    assert report.error is None, report.error
    assert_equals_clean_run(scenario, settings)


def restart(root: Path) -> None:
    cluster = postgres_cluster.existing_cluster(root.resolve())
    stopped = cluster.run("pg_ctl", "stop", "--mode=immediate", "--wait", f"--pgdata={cluster.data}")
    assert stopped.returncode == 0, stopped.stderr
    embedded.start_postgres(root)  # on the same port


# --- Privileges -------------------------------------------------------------------------------------------------------

SCHEMAS = "bronze, silver, gold, meta, partitions, staging"


@contextmanager
def role(settings: Settings) -> Iterator[Settings]:
    name = "reader_of_" + settings.postgres_db
    execute(settings, f"create role {name} login password 'only-reads'")
    for right in (f"usage on schema {SCHEMAS}", f"select on all tables in schema {SCHEMAS}"):
        execute(settings, f"grant {right} to {name}")
    reader = settings.model_copy(update={"postgres_user": name, "postgres_password": SecretStr("only-reads")})
    try:
        yield reader
    finally:
        close_connections()


OWNS_META_SCHEMA = (
    "grant {role} to {owner}",
    "grant create on database {database} to {role}",
    "alter schema meta owner to {role}",
    *(
        f"alter table meta.{table} owner to {{role}}"
        for table in ("pipeline_runs", "ingested_files", "table_loads", "commit_marks")
    ),
    "alter sequence meta.load_ids owner to {role}",
    "alter function meta.note_change owner to {role}",
)


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ((), ("opening the run", "permission denied", "table commit_marks")),
        (
            ("grant create on database {database} to {role}",),
            ("opening the run", "permission denied", "table commit_marks"),
        ),
        (OWNS_META_SCHEMA, ("step 1", "must be owner of schema bronze")),
    ],
    ids=["no rights", "rights on the database alone", "owner of schema meta alone"],
)
def test_role_without_write_privileges_is_reported(
    scenario: Scenario, settings: Settings, statements: tuple[str, ...], named: tuple[str, ...]
) -> None:
    with role(settings) as reader:
        for statement in statements:
            owner, database = settings.postgres_user, settings.postgres_db
            execute(settings, statement.format(role=reader.postgres_user, owner=owner, database=database))
        report = run(reader)
    assert report.exit_code == 1
    assert_clear(report.error, reader.postgres_user, *named)
    assert "only-reads" not in str(report.error)
    assert Warehouse(settings).contents() == scenario.a


def test_owner_completes_the_run_after_another_role_failed(scenario: Scenario, settings: Settings) -> None:
    with role(settings) as reader:
        assert run(reader).exit_code == 1
    assert run(settings).error is None
    assert_equals_clean_run(scenario, settings)
