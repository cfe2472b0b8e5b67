"""The embedded PostgreSQL after interrupted starts and killed servers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from servers import embedded_folder, free_port, running_postgres

from etl.local import postgres_server
from etl.local.embedded import start_postgres
from etl.local.postgres_cluster import EmbeddedError, EmbeddedPostgres


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with embedded_folder() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_server, "FIRST_PORT", free_port())
        start_postgres(root)
        yield root


def connect(server: EmbeddedPostgres) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
    )


def accepts_connections(server: EmbeddedPostgres) -> bool:
    with closing(connect(server)):
        return True


def test_server_does_not_start_next_to_backends_of_a_killed_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_postgres(root)
    connection = connect(server)
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)  # it cannot notice that its server is gone
    os.kill(int((root / "postgres" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    try:
        while running_postgres(root):
            time.sleep(0.01)
        monkeypatch.setattr(postgres_server, "OLD_BACKENDS_TIMEOUT_SECONDS", 0.5)
        with pytest.raises(
            EmbeddedError,
            match="is still in use by a server that is not visible from here, or by sessions of one that was killed",
        ):
            start_postgres(root)
        monkeypatch.undo()
    finally:
        threading.Timer(0.5, os.kill, (backend, signal.SIGCONT)).start()
    assert start_postgres(root) == server
    assert accepts_connections(server)


def test_server_does_not_start_next_to_one_in_another_container(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_postgres(root)
    monkeypatch.setattr(postgres_server, "_is_server", lambda *_: False)  # its process is not visible
    monkeypatch.setattr(postgres_server, "OLD_BACKENDS_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(EmbeddedError, match="is still in use by a server that is not visible from here"):
        start_postgres(root)
    monkeypatch.undo()
    assert (root / "postgres" / "postmaster.pid").exists()
    assert running_postgres(root) == server
    assert accepts_connections(server)


def test_server_whose_start_was_interrupted_is_restarted(root: Path) -> None:
    server = start_postgres(root)
    pid_file = root / "postgres" / "postmaster.pid"
    before = pid_file.read_text()
    with pid_file.open("r+") as file:
        file.write(before.replace("ready   ", "starting"))
    assert running_postgres(root) is None
    assert start_postgres(root) == server
    assert pid_file.read_text().splitlines()[0] != before.splitlines()[0]
    assert accepts_connections(server)


def test_damaged_password_file_is_replaced(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = start_postgres(root)
    server.pgpass_file.write_text("127.0.0.1:54")
    again = start_postgres(root)
    assert again.port == server.port
    assert again.password != server.password
    assert f"{server.pgpass_file} was missing or damaged: the role homebuddy has a new password" in caplog.text
    assert accepts_connections(again)


def test_password_file_of_an_earlier_version_gets_a_password_for_readers(root: Path) -> None:
    server = start_postgres(root)
    owner, _ = server.pgpass_file.read_text().splitlines(keepends=True)
    server.pgpass_file.write_text(owner)
    again = start_postgres(root)
    assert again.password == server.password
    assert again.reader_password
    assert server.pgpass_file.read_text().startswith(owner)


def test_server_of_a_moved_folder_is_still_found(root: Path) -> None:
    server = start_postgres(root)
    moved = root.with_name(f"{root.name}-moved")
    root.rename(moved)
    try:
        found = running_postgres(moved)
    finally:
        moved.rename(root)
    assert found is not None
    assert found.port == server.port
