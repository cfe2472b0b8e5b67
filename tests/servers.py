"""Servers that are not the pipeline's own: the distribution's PostgreSQL, one like the image's, S3 in another process.

The distribution's PostgreSQL speaks TLS, with a certificate for `localhost`. Over its socket the account that runs it
is let in, as on a fresh Debian; over TCP nobody is without a password.
"""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql
from pydantic import SecretStr

from benchmarks.default_postgres import OLDEST_VERSION, installed_programs, unprivileged_account
from etl.local import postgres_cluster
from etl.local.demo import demo_settings
from etl.utils.utils_connection import Settings

START_TIMEOUT_SECONDS = 60
OWNER, OWNER_PASSWORD = "owner", "the-owner's"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that is not the pipeline's own."""

    port: int
    folder: Path
    programs: Path
    account: str | None
    """Who runs it, when that is not the user of the tests."""
    superuser: str
    """Let in over the socket."""

    @property
    def certificate(self) -> Path:
        return self.folder / "server.crt"

    def settings(self, role: str, password: str, database: str, s3_endpoint: str) -> Settings:
        """What `python main.py` needs to know to work here, with a bucket of the database's name."""
        postgres = postgres_cluster.EmbeddedPostgres(
            host="127.0.0.1",
            port=self.port,
            user=role,
            password=password,
            database=database,
            pgpass_file=self.folder / "no-pgpass",
            data_directory=self.folder / "data",
        )
        keys = {"s3_access_key_id": SecretStr("AKIAEXAMPLE"), "s3_secret_access_key": SecretStr(SECRET_KEY)}
        return demo_settings(postgres, s3_endpoint).model_copy(
            update=keys | {"s3_region": "eu-north-1", "s3_bucket_name": database}
        )

    def connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user=OWNER, password=OWNER_PASSWORD, dbname=database, connect_timeout=5
        )

    def execute(self, database: str, *statements: sql.Composable | str) -> None:
        """As the superuser, each statement on its own."""
        with closing(self.connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as db:
                for statement in statements:
                    db.execute(statement)


SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYkey"


@contextmanager
def distribution_server() -> Iterator[Server]:
    """A server of the distribution's PostgreSQL; without one the test is skipped."""
    programs = installed_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL {OLDEST_VERSION} or later of the distribution: /usr/lib/postgresql/*/bin/initdb")
    account = unprivileged_account()
    # Not tmp_path: pytest makes that one private, and the server's account could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if account:
            shutil.chown(folder, account)
            folder.chmod(0o711)
        tls = {"ssl": "on"} | {f"ssl_{name}_file": path for name, path in new_certificate(folder, account).items()}
        with running_server(programs, folder, account, account or getpass.getuser(), [], tls) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def image_server(initdb_arguments: Sequence[str], options: Mapping[str, str]) -> Iterator[Server]:
    """A server such as the postgres image starts: superuser `postgres`, of the same major as the embedded one."""
    account = postgres_cluster.server_account()
    name = account.pw_name if account else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if name:
            shutil.chown(folder, name)
            folder.chmod(0o711)
        programs, arguments = postgres_cluster.server_programs(account), ["--auth-local=trust", *initdb_arguments]
        with running_server(programs, folder, name, "postgres", arguments, options) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(
    programs: Path,
    folder: Path,
    account: str | None,
    superuser: str,
    initdb_arguments: Sequence[str],
    options: Mapping[str, object],
    *,
    address: str = "127.0.0.1",
    inside: Sequence[str] = (),
) -> Iterator[Server]:
    """Make a cluster in the folder, and start a server on it.

    Args:
        inside: a command that starts another one, as the account, in a network of its own, where the address is.
    """
    data, log, port = folder / "data", folder / "log", free_port()
    access = ("--auth-host=scram-sha-256", "--auth-local=peer")
    initdb = (programs / "initdb", "-D", data, "-U", superuser, *access, "--encoding=UTF8", "--no-sync")
    run_as(account, *initdb, *initdb_arguments, check=True)
    options = {
        **options,
        "listen_addresses": address,
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*inside, programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
            user=None if inside else account,
            cwd="/",
            stdout=output,
            stderr=output,
        )
    server = Server(port, folder, programs, account, superuser)
    try:
        ready = [programs / "pg_isready", "-h", folder, "-p", str(port), "-U", superuser]
        wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, process, log)
        password = OWNER_PASSWORD.replace("'", "''")
        make_owner = f"create role {OWNER} superuser login password '{password}'"
        psql = (programs / "psql", "-h", folder, "-p", str(port), "-U", superuser, "-d", "postgres")
        run_as(account, *psql, "-c", make_owner, check=True)
        yield server
    finally:
        run_as(account, programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
        process.kill()
        process.wait()


def new_certificate(folder: Path, account: str | None) -> dict[str, Path]:
    """The certificate of a server called `localhost`, signed by nobody but itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = {"cert": folder / "server.crt", "key": folder / "server.key"}
    paths["cert"].write_bytes(certificate.public_bytes(pem))
    paths["key"].write_bytes(private)
    paths["key"].chmod(0o600)
    if account:
        shutil.chown(paths["key"], account)
    return paths


def run_as(account: str | None, *command: str | Path, check: bool) -> None:
    subprocess.run(command, user=account, cwd="/", check=check, capture_output=True, timeout=120)


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def s3_in_another_process(folder: Path) -> Iterator[str]:
    """The endpoint of an S3 server that takes any credentials."""
    port, log = free_port(), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        wait_until(lambda: accepts_connections(port), process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{process.args} is not up: {log.read_text()}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
