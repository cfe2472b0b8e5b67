"""The distribution's PostgreSQL with default settings, as on a server that was not tuned.

Version 15, the oldest that the pipeline supports, is preferred. The server listens only on 127.0.0.1 and requires a
password. Its data directory is created each time.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from etl.local.postgres_cluster import HOST, ROLE, Cluster, EmbeddedPostgres
from etl.local.postgres_server import (
    CREATION_HINT,
    FIRST_PORT,
    run,
    run_single_user,
    server_lock,
    start_on_free_port,
    stop_server,
)
from etl.utils.errors import PipelineError

ADMIN = "bench"
"""Superuser of the cluster, for copies of databases, `checkpoint` and `alter system`."""
OLDEST_VERSION = 15
INSTALLED = Path("/usr/lib/postgresql")
FOLDER_PREFIX = "postgres-default-"

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
def default_postgres(root: Path) -> Iterator[tuple[EmbeddedPostgres, str]]:
    """Start a new server. Stop it and delete its data when the block ends. Yields the server and the password of ADMIN.

    Args:
        root: parent of the data directory, if the server's account can access it.

    Raises:
        PipelineError: PostgreSQL is not installed, initdb failed, or the server did not start.
    """
    programs = installed_programs()
    if programs is None:
        raise PipelineError(
            "the distribution's PostgreSQL is not installed", hint="apt-get install postgresql, or --server embedded"
        )
    root.mkdir(parents=True, exist_ok=True)
    password, owner_password = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    account = unprivileged_account()
    with _data_folder(root, account) as folder:
        cluster = Cluster(folder, folder / "data", programs, pwd.getpwnam(account) if account else None)
        _initdb(cluster, password, owner_password)
        with server_lock(cluster) as lock:
            port = start_on_free_port(cluster, FIRST_PORT, lock)
        try:
            yield (
                EmbeddedPostgres(port, owner_password, cluster.pgpass_file, cluster.data, database="postgres"),
                password,
            )
        finally:
            stop_server(cluster)


def _initdb(cluster: Cluster, password: str, owner_password: str) -> None:
    """Create a cluster with both roles. All options but those for the address keep their defaults."""
    options = (f"--pgdata={cluster.data}", f"--username={ADMIN}", "--auth=reject")
    run(cluster, "initdb", *options, "--encoding=UTF8", "--locale=C.UTF-8", hint=CREATION_HINT)
    with (cluster.data / "postgresql.conf").open("a") as settings:
        settings.write(f"listen_addresses = '{HOST}'\nunix_socket_directories = ''\n")
    (cluster.data / "pg_hba.conf").write_text("host all all all scram-sha-256\n", encoding="utf-8")
    run_single_user(
        cluster,
        f"alter role {ADMIN} password '{password}'",
        # createrole, because the pipeline creates the roles of readers.
        f"create role {ROLE} login createrole password '{owner_password}'",
    )


def unprivileged_account() -> str | None:
    """Return the account that runs the server if this user is root, because PostgreSQL refuses root; else None."""
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
