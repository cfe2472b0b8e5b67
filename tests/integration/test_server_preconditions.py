"""What the server must be is checked when a run opens, before anything is written (case 09)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from servers import OWNER, OWNER_PASSWORD, Server, distribution_server, free_port, run_as, wait_until
from support import PROJECT, Bucket, Warehouse, connection_arguments, environment_of

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.reporting.report import write_report
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import close_connections

Python = Callable[..., subprocess.CompletedProcess[str]]
ROLE, PASSWORD = "loader", "of-the-loader"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The distribution's PostgreSQL: the embedded one lets nobody create a database."""
    with distribution_server() as server:
        server.execute("postgres", f"create role {ROLE} login password '{PASSWORD}'")
        yield server


def new_database(server: Server, name: str, encoding: str = "UTF8", s3_endpoint: str = NOWHERE) -> Settings:
    server.execute(
        "postgres",
        f"create database {name} owner {ROLE} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0",
    )
    return server.settings(ROLE, PASSWORD, name, s3_endpoint)


def execute(settings: Settings, *statements: str) -> None:
    with closing(psycopg2.connect(**connection_arguments(settings))) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def assert_refused_before_anything_is_written(
    done: subprocess.CompletedProcess[str], settings: Settings, *words: str
) -> None:
    assert done.returncode == 1
    assert "retrying" not in done.stderr
    assert "error: opening the run: " in done.stderr
    for part in words:
        assert part in done.stderr
    schemas = "select count(*) from pg_namespace where nspname in ('meta', 'bronze', 'silver', 'gold')"
    assert Warehouse(settings).value(schemas) == 0


# --- Encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP", "WIN1252"])
def test_database_in_another_encoding_is_refused(server: Server, python: Python, encoding: str) -> None:
    settings = new_database(server, f"leads_in_{encoding.lower()}", encoding)
    done = python("main.py", environment=environment_of(settings))
    assert_refused_before_anything_is_written(
        done,
        settings,
        f"database {settings.postgres_db} has encoding {encoding}",
        "→ set POSTGRES_DB",
        "encoding 'UTF8' template template0",
    )


def test_create_warehouse_makes_a_database_in_utf8_on_any_server(server: Server) -> None:
    """On a server whose template is SQL_ASCII, as initdb makes it under LANG=C."""
    server.execute(
        "postgres", "update pg_database set encoding = pg_char_to_encoding('SQL_ASCII') where datname = 'template1'"
    )
    script = PROJECT / "sql_scripts" / "admin" / "create_warehouse.psql"
    variables = {"POSTGRES_USER": "etl", "POSTGRES_PASSWORD": "of-the-etl", "POSTGRES_DB": "made_by_script"}
    connection = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": OWNER, "PGPASSWORD": OWNER_PASSWORD}
    with script.open() as text:
        subprocess.run(
            [server.programs / "psql", "--no-psqlrc", "--dbname", "postgres"],
            stdin=text,
            env=os.environ | variables | connection,
            check=True,
            capture_output=True,
        )
    settings = server.settings("etl", "of-the-etl", "made_by_script", NOWHERE)
    assert Warehouse(settings).value("show server_encoding") == "UTF8"


# --- Read-only --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["role {user}", "database {database}", "role {user} in database {database}"])
def test_read_only_default_is_refused(settings: Settings, python: Python, of: str) -> None:
    of = of.format(user=settings.postgres_user, database=settings.postgres_db)
    execute(settings, f"alter {of} set default_transaction_read_only = on")
    try:
        done = python("main.py", environment=environment_of(settings))
        assert_refused_before_anything_is_written(
            done,
            settings,
            "cannot be used as the warehouse: transactions are read-only",
            "→ reset default_transaction_read_only, which is on for the role, the database or the server",
        )
    finally:
        execute(settings, "set default_transaction_read_only = off", f"alter {of} reset default_transaction_read_only")


@contextmanager
def hot_standby(primary: Server) -> Iterator[int]:
    """Start a standby of the server. Yields its port."""
    folder, port = primary.folder / "standby", free_port()
    run_as(
        primary.account,
        primary.programs / "pg_basebackup",
        *("-h", primary.folder, "-p", str(primary.port), "-U", primary.superuser),
        *("-D", folder, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        check=True,
    )
    log = primary.folder / "standby.log"
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [primary.programs / "postgres", "-D", folder, *(f"--{name}={value}" for name, value in options.items())],
            user=primary.account,
            cwd="/",
            stdout=output,
            stderr=output,
        )
    try:
        ready = [primary.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, process, log)
        yield port
    finally:
        process.send_signal(signal.SIGINT)  # fast: a pool of the pipeline is still connected
        process.wait(30)


def test_standby_is_refused_for_a_run_and_serves_the_report(
    server: Server, bucket: Bucket, s3_endpoint: str, tmp_path: Path, python: Python
) -> None:
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
    bucket.put_leads([("u1", "p1", "e1")])
    settings = new_database(server, "leads", s3_endpoint=s3_endpoint).model_copy(update={"s3_bucket_name": bucket.name})
    assert run_steps(settings, STEPS).error is None
    close_connections()
    with hot_standby(server) as port:
        standby = settings.model_copy(update={"postgres_port": port})
        done = python("main.py", environment=environment_of(standby))
        assert done.returncode == 1
        assert "the server is a standby\n  → connect to the primary" in done.stderr
        assert write_report(standby, tmp_path / "report.html").exists()
        close_connections()


# --- Version ----------------------------------------------------------------------------------------------------------


@contextmanager
def server_that_claims(settings: Settings, version: int) -> Iterator[Settings]:
    """A proxy in front of the server that replaces the version number in what it answers."""
    actual = str(Warehouse(settings).value("show server_version_num")).encode()
    claimed = str(version).encode()
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data.replace(actual, claimed))
            target.shutdown(socket.SHUT_WR)

    def listen() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((settings.postgres_host, settings.postgres_port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield settings.model_copy(update={"postgres_port": listener.getsockname()[1], "postgres_sslmode": "disable"})
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize(("version", "shown"), [(140_013, "14"), (130_009, "13")])
def test_older_version_is_refused(settings: Settings, python: Python, version: int, shown: str) -> None:
    claimed = f"{version:06d}"
    with server_that_claims(settings, int(claimed)) as old:
        done = python("main.py", environment=environment_of(old))
    assert_refused_before_anything_is_written(
        done, settings, f"the server is PostgreSQL {shown}", "upgrade the server to PostgreSQL 15 or later"
    )


def test_everything_that_is_wrong_is_in_one_error(server: Server, python: Python) -> None:
    settings = new_database(server, "old_and_latin", "LATIN1")
    with server_that_claims(settings, 140_013) as old:
        done = python("main.py", environment=environment_of(old))
    assert_refused_before_anything_is_written(done, settings, "PostgreSQL 14", "LATIN1", "template0", "upgrade")
    assert done.stderr.count("error: ") == 1
