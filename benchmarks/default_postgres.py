"""The distribution's PostgreSQL with default settings, as on a server that was not tuned.

Version 15, the oldest that the pipeline supports, is preferred. The server listens only on 127.0.0.1, requires a
password, and is stopped by a signal. Its data directory is created each time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from etl.local.postgres_cluster import EmbeddedPostgres
from etl.utils.errors import PipelineError

HOST = "127.0.0.1"
ROLE = "homebuddy"
OLDEST_VERSION = 15
INSTALLED = Path("/usr/lib/postgresql")
FOLDER_PREFIX = "postgres-default-"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 120

# Parent of the data directory if the account that runs the server for root cannot access the benchmark's folder. Not
# /tmp, which may be in memory.
SHARED_FOLDER = Path("/var/tmp")  # noqa: S108 - mkdtemp creates a private folder in it


def installed_programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`: version 15, else the newest supported one, else None."""
    folders = {int(path.parts[-3]): path.parent for path in INSTALLED.glob("[0-9]*/bin/initdb")}
    supported = [version for version in folders if version >= OLDEST_VERSION]
    if not supported:
        return None
    return folders[OLDEST_VERSION if OLDEST_VERSION in supported else max(supported)]


@contextmanager
def default_postgres(root: Path, programs: Path, superuser: str, password: str) -> Iterator[EmbeddedPostgres]:
    """Start a new server. Stop it and delete its data when the block ends.

    Args:
        root: parent of the data directory, if the server's account can access it.
        superuser: name of the only superuser, which gets `password`.

    Raises:
        PipelineError: initdb failed, or the server did not start. The message contains the end of the output or log.
    """
    account = unprivileged_account()
    with _data_folder(root, account) as folder:
        data, log = folder / "data", folder / "log"
        _initdb(programs, data, account, superuser, password)
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - no shell, and no argument comes from outside
                [programs / "postgres", "-D", data, *_options(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=account,
                extra_groups=None if account is None else [],
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C interrupts the benchmark, which then stops the server
            )
        try:
            server = EmbeddedPostgres(
                host=HOST,
                port=port,
                user=ROLE,
                password=secrets.token_urlsafe(32),
                database="postgres",
                pgpass_file=folder / "no-pgpass",
                data_directory=data,
            )
            with closing(_connect_when_ready(server, superuser, password, process, log)) as connection:
                connection.autocommit = True
                with connection.cursor() as db:
                    # createrole, because the pipeline creates the roles of readers.
                    create_role = sql.SQL("create role {} login createrole password {}")
                    db.execute(create_role.format(sql.Identifier(ROLE), sql.Literal(server.password)))
            yield server
        finally:
            stop(process)


def _options(port: int) -> Sequence[str]:
    """Return the options for the address. All other options keep their defaults."""
    return ("-c", f"listen_addresses={HOST}", "-c", f"port={port}", "-c", "unix_socket_directories=")


def _initdb(programs: Path, data: Path, account: str | None, superuser: str, password: str) -> None:
    password_file = data.with_name("password")
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="utf-8")
    if account:
        shutil.chown(password_file, account)
    try:
        result = subprocess.run(  # noqa: S603
            [
                programs / "initdb",
                f"--pgdata={data}",
                f"--username={superuser}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ],
            user=account,
            extra_groups=None if account is None else [],
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        password_file.unlink()
    if result.returncode:
        raise PipelineError(f"initdb failed: {result.stderr[-1000:]}", hint=f"check {programs} and the free disk space")


def _environment() -> dict[str, str]:
    """Return an environment without PG… variables, which would change what the programs connect to."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def unprivileged_account() -> str | None:
    """Return the account that runs the server if this user is root, because PostgreSQL refuses root; else None."""
    import pwd

    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in accounts)


@contextmanager
def _data_folder(root: Path, account: str | None) -> Iterator[Path]:
    """Yield a new folder that belongs to the account. Delete it when the block ends."""
    parent = root
    if account and subprocess.run(["test", "-x", root], user=account, cwd="/", check=False).returncode:  # noqa: S603, S607
        parent = SHARED_FOLDER
    _delete_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
    try:
        if account:
            shutil.chown(folder, account)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_leftovers(parent: Path) -> None:
    """Delete folders of killed benchmarks: more than a day old, and without a running server."""
    yesterday = time.time() - 86_400
    for leftover in parent.glob(f"{FOLDER_PREFIX}*"):
        if leftover.stat().st_mtime < yesterday and not _has_running_server(leftover / "data"):
            shutil.rmtree(leftover, ignore_errors=True)


def _has_running_server(data: Path) -> bool:
    with suppress(OSError, ValueError):
        return psutil.pid_exists(int((data / "postmaster.pid").read_text().splitlines()[0]))
    return False


def _connect_when_ready(
    server: EmbeddedPostgres, user: str, password: str, process: subprocess.Popen[bytes], log: Path
) -> psycopg2.extensions.connection:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            return psycopg2.connect(
                host=server.host, port=server.port, user=user, password=password, dbname="postgres", connect_timeout=5
            )
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace")[-1000:]
                raise PipelineError(
                    f"PostgreSQL did not start: {said or error}", hint="fix the cause and rerun"
                ) from None
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # fast shutdown: disconnects all sessions
    try:
        process.wait(timeout=STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # immediate shutdown: the data is deleted anyway
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
