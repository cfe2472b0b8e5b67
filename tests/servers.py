"""Other servers: the PostgreSQL of the distribution, one like the postgres image, and S3 in another process.

The PostgreSQL of the distribution has TLS, with a certificate for `localhost`. Its operating system account connects
over the socket without a password, as on a new Debian; TCP connections need a password.
"""

from __future__ import annotations

import getpass
import os
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
from etl.local import embedded, postgres_cluster, postgres_server
from etl.local.demo import demo_settings
from etl.utils.utils_connection import Settings

START_TIMEOUT_SECONDS = 60
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_own_ports = iter(range(10_000 + 1_000 * _process, 11_000 + 1_000 * _process))
OWNER, OWNER_PASSWORD = "owner", "the-owner's"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that is not the embedded one."""

    port: int
    folder: Path
    programs: Path
    account: str | None
    """The operating system account of the server, if it differs from that of the tests."""
    superuser: str
    """The role that connects over the socket."""

    @property
    def certificate(self) -> Path:
        return self.folder / "server.crt"

    def settings(self, role: str, password: str, database: str, s3_endpoint: str) -> Settings:
        """Return settings for this server, with a bucket of the database's name."""
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
        """Execute each statement as the superuser, in a transaction of its own."""
        with closing(self.connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as db:
                for statement in statements:
                    db.execute(statement)


SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYkey"


@contextmanager
def distribution_server() -> Iterator[Server]:
    """Start the PostgreSQL of the distribution; skip the test if it is not installed."""
    programs = installed_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL {OLDEST_VERSION} or later of the distribution: /usr/lib/postgresql/*/bin/initdb")
    account = unprivileged_account()
    # Not tmp_path: it is private, and the account of the server could not enter it.
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
    """Start a server like that of the postgres image: superuser `postgres` and the embedded major version."""
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
    """Create a cluster in the folder, and start a server on it.

    Args:
        inside: a command that executes another command as the account, such as in the network namespace of the address.
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


@contextmanager
def embedded_folder() -> Iterator[Path]:
    """Yield an empty folder for an embedded server; stop the server at the end."""
    with tempfile.TemporaryDirectory(prefix="homebuddy-postgres-") as folder:
        root = Path(folder)
        root.chmod(0o711)  # the account that runs root's server must be able to enter
        yield root
        embedded.stop_postgres(root)


def start_embedded(root: Path, *statements: str) -> Settings:
    """Start an embedded server whose role may create databases. The S3 endpoint of its settings does not exist.

    Args:
        statements: further changes by the superuser.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_server, "FIRST_PORT", free_port())
        password = embedded.start_postgres(root).password
    embedded.stop_postgres(root)
    postgres_server.run_single_user(
        postgres_cluster.existing_cluster(root.resolve()),
        "set scram_iterations = 1",  # tests open thousands of connections
        f"alter role {postgres_cluster.ROLE} createdb password '{password}'",
        "alter system set fsync = off",  # tests kill processes, not the machine: nothing is lost
        *statements,
    )
    return demo_settings(embedded.start_postgres(root), "http://127.0.0.1:9")


def new_certificate(folder: Path, account: str | None) -> dict[str, Path]:
    """Create a self-signed certificate for `localhost`, and its key."""
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
    """Yield the endpoint of an S3 server that accepts any credentials."""
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
    """Return a free port that stays free while a server on it restarts.

    Each test process has ports of its own, below those of outgoing connections and above those that embedded servers
    try by themselves.
    """
    for port in _own_ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    pytest.fail("this test process has used all of its ports")


def running_postgres(root: Path) -> postgres_cluster.EmbeddedPostgres | None:
    """Return the server of a folder; None if it does not accept connections or its password is unknown."""
    with postgres_cluster.found_cluster(root) as cluster:
        return postgres_server.running_server(cluster) if cluster else None
