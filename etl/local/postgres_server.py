"""Create, start and stop the server of a cluster. The caller must have locked the files of the cluster."""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from etl.local.postgres_cluster import (
    DATABASE,
    HOST,
    READER,
    ROLE,
    SETTINGS_FILE,
    Cluster,
    EmbeddedError,
    EmbeddedPostgres,
    last_lines,
    run_program,
)

log = logging.getLogger(__name__)

FIRST_PORT, PORTS_TO_TRY = 5432, 100
START_TIMEOUT_SECONDS = 300  # after a crash, up to max_wal_size of log is replayed first
STOP_TIMEOUT_SECONDS = 120
OLD_BACKENDS_TIMEOUT_SECONDS = 10
CREATION_HINT = "fix the cause (often a full disk) and rerun"


def start_server(cluster: Cluster) -> EmbeddedPostgres:
    """Start the server, and return it. A server that is running is stopped first, even if it can be used.

    The port is that of the last start, else the first free one from 5432. Creates the database if it is missing. If
    `pgpass` is missing or damaged, the role gets a new password; the caller writes it to `pgpass`.

    Raises:
        EmbeddedError: the database cannot be created, the password cannot be reset, no port is free, or the server did
            not stop, or did not start. In the last case, the message contains the end of its log.
    """
    known = read_pgpass(cluster)
    server = known or EmbeddedPostgres(FIRST_PORT, secrets.token_urlsafe(32), cluster.pgpass_file, cluster.data)
    preferred = running_port(cluster) or server.port
    if running_port(cluster):  # its password was lost, or its start was interrupted
        stop_server(cluster)
    with server_lock(cluster) as lock:
        cluster.pid_file.unlink(missing_ok=True)  # after a crash its process id may be that of another process
        if not cluster.data.exists():
            _initialise(cluster, server.password)
        elif not known:
            run_single_user(cluster, f"alter role {ROLE} password '{server.password}'")
            log.warning("%s was missing or damaged: the role %s has a new password", cluster.pgpass_file, ROLE)
        _write_settings(cluster)
        return replace(server, port=start_on_free_port(cluster, preferred, lock))


@contextmanager
def server_lock(cluster: Cluster) -> Iterator[int]:
    """Lock the data for one server. Yields the descriptor of the lock, for the server to inherit.

    The lock is then held until all processes of the server have ended. Process ids are not sufficient: a server in
    another container, or on the host of this one, is not visible.
    """
    with (cluster.root / "postgres.running").open("a") as lock:
        deadline = time.monotonic() + OLD_BACKENDS_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"{cluster.data} is still in use by a server that is not visible from here, or by sessions of "
                        "one that was killed",
                        hint="stop it where it was started, on the host or in another container, with make demo-stop; "
                        "if it was killed, wait for its sessions, or end the remaining postgres processes",
                    ) from None
                time.sleep(0.2)  # sessions of a killed server need a moment to end
        yield lock.fileno()


def _initialise(cluster: Cluster, password: str) -> None:
    """Create the data directory with the role and the database. It gets its name only when it is complete."""
    folder = cluster.data.parent
    for leftover in folder.glob("postgres.new-*"):  # of a start that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="postgres.new-", dir=folder) as name:
        new = replace(cluster, data=Path(name))
        new.chown(new.data)
        _initdb(new)
        # createrole: the pipeline creates the roles of readers.
        create_role = f"create role {ROLE} login createrole password '{password}'"
        create_database = f"create database {DATABASE} owner {ROLE}"
        run_single_user(new, create_role, create_database, hint=CREATION_HINT)
        new.data.rename(cluster.data)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)  # the new name survives a power cut
    os.close(descriptor)


def _initdb(cluster: Cluster) -> None:
    """Create a cluster whose superuser `postgres` has no password, so that nobody can log in as superuser."""
    options = (
        *(f"--pgdata={cluster.data}", "--username=postgres", "--no-instructions"),
        "--auth=reject",  # until pg_hba.conf is replaced
        # Sorts by code point on every machine; any other order depends on installed locales.
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    )
    run(cluster, "initdb", *options, hint=CREATION_HINT)
    with (cluster.data / "postgresql.conf").open("a") as main_settings:
        main_settings.write(f"\ninclude '{SETTINGS_FILE}'\n")
    _write_settings(cluster)


def run_single_user(cluster: Cluster, *statements: str, hint: str | None = None) -> None:
    """Execute statements as superuser. The server must be stopped, and a statement must not contain line breaks.

    Raises:
        EmbeddedError: a statement failed; the message does not contain the statement.
    """
    # An error must not repeat the statement, which may contain the password.
    options = ("--exit_on_error=on", "--log_min_error_statement=panic", "postgres")
    hint = hint or f"move {cluster.data} elsewhere to start with an empty database"
    stdin = "".join(f"{statement}\n" for statement in statements)
    run(cluster, "postgres", "--single", "-D", str(cluster.data), *options, stdin=stdin, hint=hint)


def _write_settings(cluster: Cluster) -> None:
    for name in (SETTINGS_FILE, "pg_hba.conf"):
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        write_private(cluster.data / name, text, cluster.account)


def start_on_free_port(cluster: Cluster, preferred: int, lock: int) -> int:
    """Start the server on the preferred port or else on the first free one. Returns the port.

    Raises:
        EmbeddedError: the server did not start, or no port is free.
    """
    ports: list[int] = [preferred, *range(FIRST_PORT, FIRST_PORT + PORTS_TO_TRY)]
    for candidate in ports:
        output = _pg_ctl_start(cluster, candidate, lock)
        if not output:
            log.info("PostgreSQL is running on %s:%d, data in %s", HOST, candidate, cluster.data)
            return candidate
        if "Address already in use" not in output:
            raise EmbeddedError(
                f"PostgreSQL in {cluster.data} did not start: {last_lines(output)}",
                hint=f"fix the cause and rerun; the log is {cluster.log_file}",
            )
    raise EmbeddedError(
        f"every port from {FIRST_PORT} to {ports[-1]} on {HOST} is already in use",
        hint="stop a server to free a port, then rerun",
    )


def _pg_ctl_start(cluster: Cluster, port: int, lock: int) -> str:
    """Start the server on this port; it inherits the descriptor `lock`.

    Returns what it or pg_ctl reported if it did not start, else an empty string.
    """
    cluster.log_file.touch(mode=0o600)
    cluster.chown(cluster.log_file)
    earlier_log = cluster.log_file.stat().st_size
    options = (f"--log={cluster.log_file}", f"--options=--port={port}", f"--timeout={START_TIMEOUT_SECONDS}")
    result = cluster.run("pg_ctl", "start", "--wait", f"--pgdata={cluster.data}", *options, inherited=(lock,))
    if result.returncode == 0:
        return ""
    with cluster.log_file.open("rb") as server_log:
        server_log.seek(earlier_log)
        return server_log.read().decode(errors="replace") or result.stderr


def stop_server(cluster: Cluster) -> None:
    """Stop the server. Open connections are closed, and their unfinished transactions are rolled back.

    Raises:
        EmbeddedError: the server did not stop.
    """
    options = (f"--pgdata={cluster.data}", "--mode=fast", f"--timeout={STOP_TIMEOUT_SECONDS}")
    run(cluster, "pg_ctl", "stop", "--wait", *options, hint=f"see {cluster.log_file}, then try again")
    log.info("PostgreSQL in %s is stopped", cluster.root)


def run(cluster: Cluster, program: str, *arguments: str, hint: str, stdin: str = "") -> None:
    """Run a program of PostgreSQL as the server's account.

    Raises:
        EmbeddedError: the program failed. The message contains the end of its output.
    """
    result = cluster.run(program, *arguments, stdin=stdin)
    if result.returncode:
        reason = last_lines(result.stderr or result.stdout)
        raise EmbeddedError(f"{program} failed for {cluster.data}: {reason}", hint=hint)


def running_port(cluster: Cluster) -> int | None:
    """Return the port of the server, ready or not; None if it is not running."""
    lines = _pid_file_lines(cluster)
    return int(lines[3]) if lines else None


def running_server(cluster: Cluster) -> EmbeddedPostgres | None:
    """Return the server if it is running and accepts connections and its password is known, else None."""
    known, lines = read_pgpass(cluster), _pid_file_lines(cluster)
    is_ready = "".join(lines[7:]).strip() == "ready"
    return replace(known, port=int(lines[3])) if known and is_ready else None


def _pid_file_lines(cluster: Cluster) -> list[str]:
    """Return the lines of postmaster.pid; an empty list if the server is not running.

    The lines are process id, data directory, start time, port, socket folder, address, shared memory, state.
    """
    with suppress(FileNotFoundError):
        lines = cluster.pid_file.read_text().splitlines()
        # After a power cut the file may be incomplete; the process id of single-user mode is negative.
        if len(lines) >= 4 and lines[0].isdecimal() and _is_server(cluster, int(lines[0])):
            return lines
    return []


def _is_server(cluster: Cluster, pid: int) -> bool:
    """Return whether a process is the server: after a crash, another process may have the id in postmaster.pid."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if cluster.account:  # in a container, root may not read the working directory of another account's process
            folder = run_program(["readlink", f"/proc/{pid}/cwd"], cluster.account).stdout.strip()
        else:
            folder = process.cwd()
        return process.name() == "postgres" and folder == str(cluster.data)
    return False


def read_pgpass(cluster: Cluster) -> EmbeddedPostgres | None:
    """Return the server whose parameters `write_pgpass` wrote; None if the file is missing or damaged."""
    with suppress(FileNotFoundError, ValueError):
        text = cluster.pgpass_file.read_bytes().decode().removesuffix("\n")
        lines = [line.split(":", 4) for line in text.split("\n")]
        passwords = {user: re.sub(r"\\(.)", r"\1", password) for _, _, _, user, password in lines}
        if ROLE in passwords:
            server = EmbeddedPostgres(int(lines[0][1]), passwords[ROLE], cluster.pgpass_file, cluster.data)
            return replace(server, reader_password=passwords.get(READER))
    return None


def write_pgpass(server: EmbeddedPostgres) -> None:
    """Write port and passwords to a libpq password file with mode 0600: libpq ignores files that others can access."""
    text = ""
    for user, password in ((server.user, server.password), (READER, server.reader_password)):
        if password:
            escaped = re.sub(r"([:\\])", r"\\\1", password)
            text += f"{server.host}:{server.port}:{server.database}:{user}:{escaped}\n"
    write_private(server.pgpass_file, text, None)


def write_private(path: Path, text: str, account: pwd.struct_passwd | None) -> None:
    """Write a file that only its owner (`account`, if given) can read, replacing an existing file atomically."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(new, "x", encoding="utf-8", errors="surrogateescape", opener=partial(os.open, mode=0o600)) as file:
        file.write(text)
        if account:
            os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
    new.replace(path)
