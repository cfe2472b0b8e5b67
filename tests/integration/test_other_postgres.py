"""The pipeline as an operator runs it: `python main.py`, plain environment variables, and servers that are not its own.

PostgreSQL is the one that the distribution installs, S3 a process of its own: nothing depends on the embedded parts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2 import sql
from pydantic import SecretStr
from support import Bucket, Warehouse, environment_of, run_python

from etl.pipeline import STEPS
from etl.utils.run import run_steps
from etl.utils.transactions import close_connections
from etl.utils.utils_connection import Settings, s3_client

OLDEST_VERSION = 15
START_TIMEOUT_SECONDS = 60
OWNER, OWNER_PASSWORD = "owner", "the-owner's"
ROLE = "loader"
PASSWORD = "p@ss:w/rd %2F 'quoted' \"twice\" \\ #1"
"""Everything that a URL, a connection string or SQL would have to escape."""
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYkey"


# --- The servers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of the distribution."""

    port: int

    def new_database(self, name: str, s3_endpoint: str) -> Settings:
        """Make a database for a role without any special right, and settings that name both."""
        with closing(self.connect("postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as db:
                db.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(ROLE)))
        return Settings(
            postgres_user=ROLE,
            postgres_password=SecretStr(PASSWORD),
            postgres_db=name,
            postgres_host="127.0.0.1",
            postgres_port=self.port,
            s3_access_key_id=SecretStr("AKIAEXAMPLE"),
            s3_secret_access_key=SecretStr(SECRET_KEY),
            s3_region="eu-north-1",
            s3_iam_role_arn=None,
            s3_iam_user_arn=None,
            aws_endpoint_url_s3=s3_endpoint,
            s3_bucket_name=name,
            s3_sftp_bucket=None,
            s3_parquet_bucket=None,
        )

    def connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user=OWNER, password=OWNER_PASSWORD, dbname=database, connect_timeout=5
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs = installed_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL {OLDEST_VERSION} or later of the distribution: /usr/lib/postgresql/*/bin/initdb")
    account = unprivileged_account()
    # Not tmp_path: pytest makes that one private, and the server's account could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if account:
            shutil.chown(folder, account)
        with running_server(programs, folder, account) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def installed_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: of the oldest supported version if that is there, else of the newest."""
    found = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")}
    versions = sorted((version for version in found if version >= OLDEST_VERSION), reverse=True)
    if not versions:
        return None
    return found[OLDEST_VERSION if OLDEST_VERSION in versions else versions[0]]


def unprivileged_account() -> str | None:
    """Who runs the server when this is root, as which PostgreSQL does not run."""
    import pwd

    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in accounts)


@contextmanager
def running_server(programs: Path, folder: Path, account: str | None) -> Iterator[Server]:
    data, log, port = folder / "data", folder / "log", free_port()
    password_file = folder / "password"
    password_file.write_text(OWNER_PASSWORD)
    if account:
        shutil.chown(password_file, account)
    run_as(
        account,
        programs / "initdb",
        *("-D", data, "-U", OWNER, "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--no-sync"),
        check=True,
    )
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
            user=account,
            cwd="/",
            stdout=output,
            stderr=output,
        )
    try:
        server = Server(port)
        wait_until(lambda: accepts_connections(server), process, log)
        with closing(server.connect("postgres")) as connection, connection, connection.cursor() as db:
            db.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
        yield server
    finally:
        run_as(account, programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
        process.kill()
        process.wait()


def run_as(account: str | None, *command: str | Path, check: bool) -> None:
    subprocess.run(command, user=account, cwd="/", check=check, capture_output=True, timeout=120)


def accepts_connections(server: Server) -> bool:
    try:
        server.connect("postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 server in another process."""
    port, log = free_port(), tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        wait_until(lambda: accepts_requests(port), process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def accepts_requests(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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


def new_bucket(settings: Settings) -> Bucket:
    region = {"LocationConstraint": settings.s3_region}
    s3_client(settings).create_bucket(Bucket=settings.s3_bucket_name, CreateBucketConfiguration=region)
    return Bucket(settings)


# --- The real files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstRun:
    """What the first run of `python main.py` said, and what it left."""

    settings: Settings
    folder: Path
    output: subprocess.CompletedProcess[str]
    contents: dict[str, str]


@pytest.fixture(scope="module")
def first_run(
    server: Server, s3_process: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FirstRun]:
    settings = server.new_database("real-leads", s3_process)
    new_bucket(settings).put_folder(real_data)
    folder = tmp_path_factory.mktemp("first_run")
    output = run_main(folder, settings)
    assert output.returncode == 0, output.stderr
    yield FirstRun(settings, folder, output, Warehouse(settings).contents())
    close_connections(settings)


def run_main(folder: Path, settings: Settings) -> subprocess.CompletedProcess[str]:
    return run_python(folder, "main.py", "--log-level", "debug", environment=environment_of(settings))


def test_the_server_is_none_of_the_embedded_ones(first_run: FirstRun) -> None:
    warehouse = Warehouse(first_run.settings)
    version = int(warehouse.value("show server_version_num")) // 10_000
    assert version >= OLDEST_VERSION
    assert str(version) in warehouse.value("select version()")
    assert warehouse.rows("select rolsuper, rolcreatedb from pg_roles where rolname = current_user") == [(False, False)]
    assert list(first_run.folder.iterdir()) == [], "nothing is made beside the tables, no .local either"


def test_every_layer_has_the_expected_rows_of_every_day(first_run: FirstRun, real_data: Path) -> None:
    expected = json.loads((real_data / "expected.json").read_text())
    warehouse = Warehouse(first_run.settings)
    tables = {
        "bronze": "bronze.csv_snapshots",
        "silver": "silver.stg_csv_snapshots",
        "gold": "gold.lead_quality_matching",
    }
    for layer, table in tables.items():
        days = warehouse.rows(f"select _partition_date::text, count(*) from {table} group by 1")
        assert dict(days) == {day: counts[layer] for day, counts in expected["partitions"].items()}
        assert sum(rows for _, rows in days) == expected[f"{layer}_rows"]
    assert warehouse.value("select count(*) from silver.stg_leads_parquet") == expected["leads"]


def test_the_matches_and_grades_are_the_expected_ones(first_run: FirstRun, real_data: Path) -> None:
    expected = json.loads((real_data / "expected.json").read_text())
    warehouse = Warehouse(first_run.settings)
    (matches,) = warehouse.rows(
        """
        select
            count(*) filter (where email_match and phone_match),
            count(*) filter (where email_match and not phone_match),
            count(*) filter (where phone_match and not email_match),
            count(*) filter (where not email_match and not phone_match)
        from gold.lead_quality_matching
        """
    )
    assert dict(zip(("both", "email_only", "phone_only", "none"), matches, strict=True)) == expected["match"]
    grades = warehouse.rows(
        "select lead_quality_flag, count(*), count(distinct lead_uuid) from gold.lead_quality_matching group by 1"
    )
    assert {flag: rows for flag, rows, _ in grades} == expected["quality_rows"]
    assert {flag: leads for flag, _, leads in grades} == expected["quality_leads"]


def test_a_second_run_leaves_equal_contents_and_no_run_tells_a_secret(first_run: FirstRun, tmp_path: Path) -> None:
    second = run_main(tmp_path, first_run.settings)
    assert second.returncode == 0, second.stderr
    assert Warehouse(first_run.settings).contents() == first_run.contents
    assert " DEBUG " in first_run.output.stderr, "the log is at its most talkative"
    for said in (first_run.output.stdout, first_run.output.stderr, second.stdout, second.stderr):
        for secret in (PASSWORD, SECRET_KEY):
            for shown in (secret, quote(secret), quote(secret, safe="")):
                assert shown not in said


# --- What differs between versions of PostgreSQL ----------------------------------------------------------------------


def test_hashes_are_trimmed_of_blanks_and_of_no_letter(server: Server, s3_process: str) -> None:
    """Before PostgreSQL 16, `\\v` in a string is the letter v."""
    settings = server.new_database("small-leads", s3_process)
    bucket = new_bucket(settings)
    bucket.put_leads([("its own", "p1", "vabcv"), ("another's", "p2", "abc")])
    bucket.put_snapshot(
        1,
        [
            {"LEADNUMBER": "1", "email_hash": "vabcv", "phone_hash": ""},
            {"LEADNUMBER": "2", "email_hash": "\x0b abc\t\x0b", "phone_hash": ""},
        ],
    )
    report = run_steps(settings, STEPS)
    close_connections(settings)
    assert report.error is None
    matches = Warehouse(settings).rows("select lead_number, lead_uuid from gold.lead_quality_matching order by 1, 2")
    assert matches == [(1, "its own"), (2, "another's")]
