"""A PostgreSQL for faults: its role may make databases, so that every test begins with a copy of version A."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import results
from scenario import LONG, Story, database_with_version_a, tell_story

from etl.local import embedded, postgres_cluster, postgres_server
from etl.local.demo import demo_settings
from etl.utils.utils_connection import Settings

_numbers = itertools.count(1)
_began = time.monotonic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The full suite, run as a whole, leaves its results in docs/reliability.md."""
    config, stats = terminalreporter.config, terminalreporter.stats
    is_whole = [Path(argument).name for argument in config.args] == ["faults"] and not stats.get("deselected")
    calls = [report for kind in ("passed", "failed") for report in stats.get(kind, []) if report.when == "call"]
    if LONG and is_whole and calls:
        results.write(calls, time.monotonic() - _began)


@pytest.fixture(scope="session")
def fault_server_root() -> Iterator[Path]:
    with TemporaryDirectory(prefix="homebuddy-faults-") as folder:
        root = Path(folder)
        root.chmod(0o711)  # the account that runs root's server has to pass through
        yield root
        embedded.stop_postgres(root)


@pytest.fixture(scope="session")
def fault_server(fault_server_root: Path) -> Settings:
    embedded.start_postgres(fault_server_root)
    embedded.stop_postgres(fault_server_root)
    postgres_server.run_single_user(
        postgres_cluster.existing_cluster(fault_server_root.resolve()),
        f"alter role {postgres_cluster.ROLE} createdb",
        # Nobody cuts this machine's power; what the faults of processes can lose does not hang on it.
        "alter system set fsync = off",
        # A worker of it in a test's database would keep that from being dropped.
        "alter system set autovacuum = off",
    )
    return demo_settings(embedded.start_postgres(fault_server_root), "http://127.0.0.1:9")


@pytest.fixture(scope="session")
def story(fault_server: Settings, s3_endpoint: str) -> Story:
    return tell_story(fault_server, s3_endpoint)


@pytest.fixture
def settings(story: Story) -> Iterator[Settings]:
    """A database that holds version A, in front of a bucket that holds version B."""
    with database_with_version_a(story, f"faults_{next(_numbers)}") as settings:
        yield settings
