"""Create, start and stop the embedded PostgreSQL server."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from etl.local.postgres_cluster import (
    DATABASE,
    HOST,
    ROLE,
    SETTINGS_FILE,
    Account,
    Cluster,
    EmbeddedError,
    EmbeddedPostgres,
    last_lines,
    run_program,
)

log = logging.getLogger(__name__)


FIRST_PORT = 5432  # where every client looks first
PORTS_TO_TRY = 100
START_TIMEOUT_SECONDS = 300  # after a crash, up to max_wal_size of log is replayed first
STOP_TIMEOUT_SECONDS = 120
OLD_BACKENDS_TIMEOUT_SECONDS = 10
SETTINGS = """\
# Written by etl/local/embedded.py at every start. Change it there: changes made here are lost.

# One way in, the same for the pipeline, psql and BI tools, from this machine only.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'

# Bulk loading on a laptop. fsync and synchronous_commit stay on: what is committed survives a power cut.
shared_buffers = 256MB              # holds the tables of a run at demo size
maintenance_work_mem = 256MB        # indexes are built in memory
work_mem = 32MB                     # the sorts and joins of gold stay out of temporary files
wal_level = minimal                 # nothing replicates, so loading a new table need not be logged row by row
max_wal_senders = 0                 # required by wal_level = minimal
max_wal_size = 4GB                  # a load of all days ends before a checkpoint is forced
checkpoint_timeout = 15min          # same reason
max_locks_per_transaction = 256     # all days are published together, each with up to 15 locks
jit = off                           # compiling costs more than these queries take
autovacuum = on                     # replaced days leave dead rows and outdated statistics

# The same results on every machine.
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
"""
ACCESS_RULES = """\
# Written by etl/local/embedded.py at every start: nobody without a password, on any way in.
# type  database  user  address  method
local   all       all            scram-sha-256
host    all       all   all      scram-sha-256
"""


def initialise(cluster: Cluster) -> EmbeddedPostgres:
    """Make the database beside its final place and move it there when all is done: a half-made one is never seen."""
    staging = replace(cluster, data=Path(tempfile.mkdtemp(prefix="postgres.new-", dir=cluster.data.parent)))
    try:
        if cluster.account:
            os.chown(staging.data, cluster.account.uid, cluster.account.gid)
        _initdb(staging)
        server = described(cluster, FIRST_PORT, secrets.token_urlsafe(32))
        _create_role_and_database(staging, server.password)
        remember(cluster, server)  # before the move: a database in place always has its password
        staging.data.rename(cluster.data)
        _sync_folder(cluster.data.parent)
    finally:
        shutil.rmtree(staging.data, ignore_errors=True)
    return server


def remove_leftovers(cluster: Cluster) -> None:
    """Delete what an `initialise` that was killed left behind; no other one is at work, as the lock is held."""
    for leftover in cluster.data.parent.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _initdb(cluster: Cluster) -> None:
    result = cluster.run(
        "initdb",
        f"--pgdata={cluster.data}",
        "--username=postgres",
        "--auth=reject",  # until the rules of this module stand there
        "--encoding=UTF8",
        # Sorts by code point on every machine; any other order depends on what is installed.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
    )
    if result.returncode:
        raise EmbeddedError(
            f"PostgreSQL could not set up {cluster.data.parent}: {last_lines(result.stderr)}",
            hint="fix the cause (often a full disk) and start again",
        )
    with (cluster.data / "postgresql.conf").open("a") as main_settings:
        main_settings.write(f"\ninclude '{SETTINGS_FILE}'\n")
    _write_settings(cluster, FIRST_PORT)


def _create_role_and_database(cluster: Cluster, password: str) -> None:
    """Make the one role that can log in: the superuser `postgres` has no password, so nobody is a superuser."""
    run_single_user(
        cluster,
        # createrole: the pipeline makes the role bi_reader for BI tools.
        f"create role {ROLE} login createrole password '{password}'",
        f"create database {DATABASE} owner {ROLE}",
    )


def set_password(cluster: Cluster, password: str) -> None:
    _forget_dead_server(cluster)
    _write_settings(cluster, FIRST_PORT)
    run_single_user(cluster, f"alter role {ROLE} password '{password}'")
    log.warning("%s was missing: role %s has a new password", cluster.pgpass_file, ROLE)


def run_single_user(cluster: Cluster, *statements: str) -> None:
    """Execute statements as superuser while no server is listening, one per line on the program's standard input."""
    result = cluster.run(
        "postgres",
        "--single",
        "-D",
        str(cluster.data),
        "-c",
        "exit_on_error=on",
        "-c",
        "log_min_error_statement=panic",  # an error message must not repeat the statement: it has the password
        "postgres",
        stdin="".join(f"{statement}\n" for statement in statements),
    )
    if result.returncode:
        raise EmbeddedError(
            f"PostgreSQL could not prepare the role {ROLE} in {cluster.data}: {last_lines(result.stderr)}",
            hint=f"move {cluster.data} away to begin with an empty database",
        )


def start_server(cluster: Cluster, *, preferred: int, only: int | None) -> int:
    """Start the server on the first port that is free, and return that port."""
    _forget_dead_server(cluster)
    for port in [only] if only else _candidates(preferred):
        if _is_free(port) and _start_on(cluster, port):
            log.info("PostgreSQL runs on %s:%d, data in %s", HOST, port, cluster.data)
            return port
    if only:
        raise EmbeddedError(f"port {only} of {HOST} is taken", hint="choose another one, or none to get a free one")
    raise EmbeddedError(
        f"no port of {HOST} between {FIRST_PORT} and {FIRST_PORT + PORTS_TO_TRY - 1} is free",
        hint="stop a server that is no longer needed",
    )


def _candidates(preferred: int) -> list[int]:
    others = [port for port in range(FIRST_PORT, FIRST_PORT + PORTS_TO_TRY) if port != preferred]
    return [preferred, *others]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does: connections of a server just stopped do not block its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def _start_on(cluster: Cluster, port: int) -> bool:
    """Start the server on this port; False when somebody took the port a moment earlier."""
    _write_settings(cluster, port)
    deadline = time.monotonic() + OLD_BACKENDS_TIMEOUT_SECONDS
    while True:
        said = _pg_ctl_start(cluster)
        if said is None:
            return True
        if "Address already in use" in said:
            return False
        # Backends of a server that was killed need a moment to notice; PostgreSQL rightly waits for no one.
        if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
            raise EmbeddedError(
                f"PostgreSQL in {cluster.data} did not start: {last_lines(said)}",
                hint=f"fix the cause and start again; the log is {cluster.log_file}",
            )
        time.sleep(0.2)


def _pg_ctl_start(cluster: Cluster) -> str | None:
    """None when the server is up; else what it said."""
    cluster.log_file.touch(mode=0o600)
    if cluster.account:
        os.chown(cluster.log_file, cluster.account.uid, cluster.account.gid)
    said_before = cluster.log_file.stat().st_size
    result = cluster.run(
        "pg_ctl",
        "start",
        "--wait",
        f"--timeout={START_TIMEOUT_SECONDS}",
        f"--pgdata={cluster.data}",
        f"--log={cluster.log_file}",
    )
    if result.returncode == 0:
        return None
    with cluster.log_file.open("rb") as server_log:
        server_log.seek(said_before)
        return server_log.read().decode(errors="replace") or result.stderr


def stop_server(cluster: Cluster) -> None:
    timeout = f"--timeout={STOP_TIMEOUT_SECONDS}"
    # fast: ends open connections instead of waiting for them; what they had committed is safe.
    result = cluster.run("pg_ctl", "stop", "--mode=fast", "--wait", timeout, f"--pgdata={cluster.data}")
    if result.returncode:
        raise EmbeddedError(
            f"PostgreSQL in {cluster.data} did not stop: {last_lines(result.stderr or result.stdout)}",
            hint=f"see {cluster.log_file}, and try again",
        )
    log.info("PostgreSQL of %s is stopped", cluster.root)


def _write_settings(cluster: Cluster, port: int) -> None:
    _replace_file(cluster.data / "pg_hba.conf", ACCESS_RULES, cluster.account)
    _replace_file(cluster.data / SETTINGS_FILE, SETTINGS.format(host=HOST, port=port), cluster.account)


def _pid_file_lines(cluster: Cluster) -> list[str]:
    """The lines of postmaster.pid: process, data directory, start, port, socket, address, memory, state."""
    try:
        return (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def server_port(cluster: Cluster) -> int | None:
    lines = _pid_file_lines(cluster)
    # Cut short by a power cut, or with the negative number of single-user mode, it names no server.
    if len(lines) < 4 or not lines[0].isdecimal() or not _is_server(cluster, int(lines[0])):
        return None
    return int(lines[3])


def _is_server(cluster: Cluster, pid: int) -> bool:
    """Whether this process is the server of this data directory: after a crash, anybody may have got its number."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return False
        if cluster.account is None:
            return Path(process.cwd()) == cluster.data
    except psutil.Error:  # gone, or somebody else's
        return False
    # Root in a container may not look at the folders of other accounts' processes; the account itself may.
    return run_program(["readlink", f"/proc/{pid}/cwd"], cluster.account).stdout.strip() == str(cluster.data)


def wait_until_ready(cluster: Cluster) -> None:
    """Wait for a server whose start was interrupted before it was up."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not any(line.strip() == "ready" for line in _pid_file_lines(cluster)[7:]):
        if time.monotonic() > deadline or server_port(cluster) is None:
            raise EmbeddedError(
                f"PostgreSQL in {cluster.data} is running but does not get ready",
                hint=f"see {cluster.log_file}, then stop and start it: python -m etl.local.embedded stop",
            )
        time.sleep(0.1)


def _forget_dead_server(cluster: Cluster) -> None:
    """Keep a pid file left by a crash from stopping the start.

    PostgreSQL only asks whether a process of that number exists; it may be anybody's by now, or one that was killed and
    never reaped. So the file names one that cannot exist. The rest of it stays: from that PostgreSQL sees whether old
    backends are still at work, and does not start beside them.
    """
    lines = _pid_file_lines(cluster)
    if len(lines) < 4:
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)
        return
    impossible_pid = str(2**31 - 1)
    _replace_file(cluster.data / "postmaster.pid", "\n".join([impossible_pid, *lines[1:], ""]), cluster.account)


def described(cluster: Cluster, port: int, password: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(
        host=HOST,
        port=port,
        user=ROLE,
        password=password,
        database=DATABASE,
        pgpass_file=cluster.pgpass_file,
        data_directory=cluster.data,
    )


def read_pgpass(cluster: Cluster) -> EmbeddedPostgres | None:
    """What `remember` wrote; None when there is no such line."""
    try:
        lines = cluster.pgpass_file.read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        match line.split(":"):
            case [_, port, _, user, password] if user == ROLE and port.isdecimal() and password:
                return described(cluster, int(port), password)
    return None


def remember(cluster: Cluster, server: EmbeddedPostgres) -> EmbeddedPostgres:
    # The format of libpq's password file. token_urlsafe has none of the characters that it would escape.
    line = f"{server.host}:{server.port}:{server.database}:{server.user}:{server.password}\n"
    if read_pgpass(cluster) != server:
        _replace_file(cluster.pgpass_file, line, None)
    cluster.pgpass_file.chmod(0o600)  # libpq ignores a file that others may read
    return server


def _replace_file(path: Path, text: str, account: Account | None) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600 from its first moment
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if account:
                os.fchown(file.fileno(), account.uid, account.gid)
        Path(name).replace(path)
        _sync_folder(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
