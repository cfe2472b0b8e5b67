"""A PostgreSQL server for faults. Its role may create databases, so that every test starts with a copy of version A."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import results
from fault_scenario import Scenario, create_scenario, database_with_version_a
from servers import embedded_folder, start_embedded
from support import LONG

from etl.utils.utils_connection import Settings

_numbers = itertools.count(1)
_started_at = time.monotonic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the results to docs/reliability.md after a complete run of the long suite."""
    config, stats = terminalreporter.config, terminalreporter.stats
    is_whole = [Path(argument).name for argument in config.args] == ["faults"] and not stats.get("deselected")
    calls = [report for kind in ("passed", "failed") for report in stats.get(kind, []) if report.when == "call"]
    if LONG and is_whole and calls:
        results.write(calls, time.monotonic() - _started_at)


@pytest.fixture(scope="session")
def fault_server_root() -> Iterator[Path]:
    with embedded_folder() as root:
        yield root


@pytest.fixture(scope="session")
def fault_server(fault_server_root: Path) -> Settings:
    # An autovacuum worker in a test's database would prevent dropping it.
    return start_embedded(fault_server_root, "alter system set autovacuum = off")


@pytest.fixture(scope="session")
def scenario(fault_server: Settings, s3_endpoint: str) -> Scenario:
    return create_scenario(fault_server, s3_endpoint)


@pytest.fixture
def settings(scenario: Scenario) -> Iterator[Settings]:
    """Yield a database that contains version A; the bucket contains version B."""
    with database_with_version_a(scenario, f"faults_{next(_numbers)}") as settings:
        yield settings
