"""The servers that are measured against: an embedded PostgreSQL and an S3 stand-in, each in processes of its own."""

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

from etl.utils import embedded
from etl.utils.demo import demo_settings
from etl.utils.embedded import EmbeddedPostgres
from etl.utils.utils_connection import Settings

ADMIN = "bench"
"""A superuser of this cluster: only one may make databases and checkpoints."""


@dataclass(frozen=True)
class Servers:
    """Both servers, up and running."""

    postgres: EmbeddedPostgres
    s3_endpoint: str
    admin_password: str = field(repr=False)

    def settings(self, database: str, bucket: str) -> Settings:
        """What a program needs to know to work on this database and this bucket."""
        settings = demo_settings(self.postgres, self.s3_endpoint)
        return settings.model_copy(update={"postgres_db": database, "s3_bucket_name": bucket})

    def rows(self, database: str, query: sql.Composable | str) -> list[tuple[Any, ...]]:
        """The result of one statement, executed as superuser and outside of a transaction."""
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

    def value(self, database: str, query: str) -> Any:
        return self.rows(database, query)[0][0]

    def remake_database(self, database: str) -> None:
        self.drop_database(database)
        self.rows(
            "postgres",
            sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(self.postgres.user)),
        )

    def drop_database(self, database: str) -> None:
        self.rows("postgres", sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))

    def settle(self, database: str) -> None:
        """Bring the server to rest: what one run leaves for later must not fall into the time of the next."""
        changed = self.rows(
            database, "select schemaname, relname from pg_stat_user_tables where n_mod_since_analyze > 0"
        )
        if changed:
            tables = sql.SQL(", ").join(sql.Identifier(*table) for table in changed)
            self.rows(database, sql.SQL("analyze {}").format(tables))
        self.rows(database, "checkpoint")

    def wait_until_idle(self, database: str) -> None:
        """Wait for the sessions of a program that has ended to end as well."""
        query = f"select count(*) from pg_stat_activity where datname = '{database}'"  # noqa: S608 - a name of ours
        while self.value("postgres", query):
            time.sleep(0.01)

    def wal_position(self) -> int:
        return int(self.value("postgres", "select pg_current_wal_insert_lsn() - '0/0'"))

    def commits(self, database: str) -> int:
        query = f"select xact_commit from pg_stat_database where datname = '{database}'"  # noqa: S608
        return int(self.value("postgres", query))

    def cpu_seconds(self) -> float:
        """User and system time of all processes of the server, those included that have ended."""
        pid = int((self.postgres.data_directory / "postmaster.pid").read_text().splitlines()[0])
        postmaster = psutil.Process(pid)
        seconds = sum(postmaster.cpu_times()[:4])  # its own, and that of children that have ended
        for child in postmaster.children():
            with suppress(psutil.NoSuchProcess):
                seconds += sum(child.cpu_times()[:2])
        return seconds


@contextmanager
def running_servers(root: Path) -> Iterator[Servers]:
    """Start both servers, and stop them when the block ends, in whatever way. The cluster in `root` is kept."""
    password = _prepare_admin(root)
    postgres = embedded.start_postgres(root)
    try:
        with _s3_process() as endpoint:
            servers = Servers(postgres, endpoint, password)
            # It would begin whenever it likes, in the time of whoever is being measured then. `settle` takes its place.
            servers.rows("postgres", "alter system set autovacuum = off")
            servers.rows("postgres", "select pg_reload_conf()")
            yield servers
    finally:
        embedded.stop_postgres(root)


def _prepare_admin(root: Path) -> str:
    """Give the superuser of this cluster a new password, which nothing but this process knows."""
    embedded.start_postgres(root)  # makes the cluster, where there is none
    embedded.stop_postgres(root)
    password = secrets.token_urlsafe(32)
    embedded._run_single_user(
        embedded._existing_cluster(root),
        # in single-user mode a caught error is an error all the same
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
        start_new_session=True,  # Ctrl-C is for the bench, which then closes this one's input
    )
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise embedded.EmbeddedError("the S3 stand-in did not start", hint="python -m benchmarks.s3_stand_in")
        yield endpoint
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
