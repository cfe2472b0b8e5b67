"""Servers of the benchmarks, in separate processes: PostgreSQL (embedded or the distribution's) and an S3 stand-in."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from psycopg2 import sql

from benchmarks.default_postgres import ADMIN, default_postgres, installed_programs
from etl.local import embedded, postgres_cluster, postgres_server
from etl.local.demo import demo_settings
from etl.local.postgres_cluster import EmbeddedPostgres
from etl.utils.utils_connection import Settings

EMBEDDED, DEFAULT = KINDS = ("embedded", "default")
"""The server of the demo with its settings, and the distribution's server with default settings."""


@dataclass(frozen=True)
class Servers:
    """Running PostgreSQL and S3 servers."""

    postgres: EmbeddedPostgres
    s3_endpoint: str
    admin_password: str = field(repr=False)

    def settings(self, database: str, bucket: str) -> Settings:
        """Return the settings of the pipeline for a database and a bucket."""
        settings = demo_settings(self.postgres, self.s3_endpoint)
        return settings.model_copy(update={"postgres_db": database, "s3_bucket_name": bucket})

    def rows(self, database: str, query: sql.Composable | str) -> list[tuple[Any, ...]]:
        """Execute a statement as superuser, with autocommit. Return its rows."""
        connection = psycopg2.connect(
            host=self.postgres.host,
            port=self.postgres.port,
            user=ADMIN,
            password=self.admin_password,
            dbname=database,
        )
        with closing(connection):
            connection.autocommit = True
            with connection.cursor() as db:
                db.execute(query)
                return db.fetchall() if db.description else []

    def value(self, database: str, query: sql.Composable | str) -> Any:
        return self.rows(database, query)[0][0]

    def recreate_database(self, database: str) -> None:
        """Create an empty database, replacing an existing one."""
        self.drop_database(database)
        self._admin("create database {} owner {}", database, self.postgres.user)

    def copy_database(self, source: str, target: str) -> None:
        """Create a database as a copy of another one, replacing an existing one.

        Files are copied, so tables keep their OIDs and their layout on disk. The source must have no connections.
        """
        self.drop_database(target)
        self._admin("create database {} template {} owner {} strategy file_copy", target, source, self.postgres.user)

    def rename_database(self, database: str, name: str) -> None:
        """Rename a database, replacing an existing one with the new name."""
        self.drop_database(name)
        self._admin("alter database {} rename to {}", database, name)

    def drop_database(self, database: str) -> None:
        self._admin("drop database if exists {} with (force)", database)

    def _admin(self, statement: str, *names: str) -> None:
        self.rows("postgres", sql.SQL(statement).format(*map(sql.Identifier, names)))

    def analyze_and_checkpoint(self, database: str) -> None:
        """Analyze changed tables and complete a checkpoint, so that deferred work does not slow down the next run."""
        changed = self.rows(
            database, "select schemaname, relname from pg_stat_user_tables where n_mod_since_analyze > 0"
        )
        if changed:
            tables = sql.SQL(", ").join(sql.Identifier(*table) for table in changed)
            self.rows(database, sql.SQL("analyze {}").format(tables))
        self.rows(database, "checkpoint")

    def wait_until_idle(self, database: str) -> None:
        """Wait until the server has ended the sessions of a program that has exited."""
        query = sql.SQL("select count(*) from pg_stat_activity where datname = {} and backend_type = 'client backend'")
        while self.value("postgres", query.format(sql.Literal(database))):
            time.sleep(0.01)

    def wal_position(self) -> int:
        return int(self.value("postgres", "select pg_current_wal_insert_lsn() - '0/0'"))

    def commits(self, database: str) -> int:
        query = sql.SQL("select xact_commit from pg_stat_database where datname = {}")
        return int(self.value("postgres", query.format(sql.Literal(database))))

    def cpu_seconds(self) -> float:
        """Return the user and system time of all processes of the server, including those that have exited."""
        pid = int((self.postgres.data_directory / "postmaster.pid").read_text().splitlines()[0])
        postmaster = psutil.Process(pid)
        while True:
            own = postmaster.cpu_times()[:4]  # including children that have exited
            seconds = sum(own)
            for child in postmaster.children():
                with suppress(psutil.NoSuchProcess):
                    seconds += sum(child.cpu_times()[:2])
            if postmaster.cpu_times()[2:4] == own[2:4]:  # else a child exited meanwhile, and was not counted
                return seconds


def is_available(kind: str) -> bool:
    return kind == EMBEDDED or installed_programs() is not None


@contextmanager
def running_servers(root: Path, kind: str = EMBEDDED) -> Iterator[Servers]:
    """Start PostgreSQL and S3, and stop both when the block ends.

    The embedded cluster in `root` is kept. The default cluster is created each time.

    Raises:
        PipelineError: the distribution's PostgreSQL is not installed, or a server did not start.
    """
    start = _embedded_postgres if kind == EMBEDDED else default_postgres
    with start(root) as (postgres, password), _s3_process() as endpoint:
        yield Servers(postgres, endpoint, password)


@contextmanager
def _embedded_postgres(root: Path) -> Iterator[tuple[EmbeddedPostgres, str]]:
    password = _prepare_admin(root)
    postgres = embedded.start_postgres(root)
    try:
        servers = Servers(postgres, "", password)
        # Autovacuum would run during some measurements and not others. `analyze_and_checkpoint` replaces it.
        servers.rows("postgres", "alter system set autovacuum = off")
        servers.rows("postgres", "select pg_reload_conf()")
        yield postgres, password
    finally:
        embedded.stop_postgres(root)


def _prepare_admin(root: Path) -> str:
    """Create the superuser of the embedded cluster, with a new password that only this process knows."""
    embedded.start_postgres(root)  # creates the cluster if there is none
    embedded.stop_postgres(root)
    password = secrets.token_urlsafe(32)
    postgres_server.run_single_user(
        postgres_cluster.existing_cluster(root),
        # No `exception` block: single-user mode reports an error even if it is caught.
        f"do $$ begin if to_regrole('{ADMIN}') is null then create role {ADMIN}; end if; end $$",
        f"alter role {ADMIN} superuser login password '{password}'",
    )
    return password


@contextmanager
def _s3_process() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.s3_stand_in"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C interrupts only the benchmark, which then closes stdin of this process
    )
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise postgres_cluster.EmbeddedError(
                "the S3 stand-in did not start", hint="run python -m benchmarks.s3_stand_in to see why"
            )
        yield endpoint
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
