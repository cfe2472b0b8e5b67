"""A PostgreSQL server for the generators, in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.local.embedded import start_postgres, stop_postgres
from etl.local.postgres_cluster import EmbeddedPostgres


@contextmanager
def temporary_postgres() -> Iterator[EmbeddedPostgres]:
    """Run a server in a temporary folder until the end of the block, then delete the folder. Yields the server.

    Raises:
        EmbeddedError: see `start_postgres` and `stop_postgres`.
    """
    with tempfile.TemporaryDirectory(prefix="homebuddy-postgres-") as name:
        root = Path(name)
        root.chmod(0o711)  # the account that runs root's server must be able to enter
        server = start_postgres(root)
        try:
            yield server
        finally:
            stop_postgres(root)
