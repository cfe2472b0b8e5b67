"""Fixture: `python main.py --demo` in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pytest
from servers import running_postgres

from etl.local.embedded import stop_postgres

PROJECT = Path(__file__).parents[2]


class Demo:
    """A folder in which the demo runs, and its warehouse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, PROJECT / "main.py", "--demo", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def connect(self) -> psycopg2.extensions.connection:
        server = running_postgres(self.folder / ".local")
        assert server is not None
        return psycopg2.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = self.connect()
        try:
            with connection, connection.cursor() as db:
                db.execute(sql)
                return db.fetchall()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with TemporaryDirectory(prefix="homebuddy-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the account that runs root's server must be able to enter
        yield Demo(folder)
        stop_postgres(folder / ".local")
