"""One round of measurements: a first load, a full refresh and the peers, and every case on a copy of a warehouse.

Each case starts from a copy of a loaded warehouse. The database is copied file by file (`create database … template`),
so that its tables keep the OIDs that the load ledger contains. Row counts are checked after each run.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks import floor
from benchmarks.cases import BASE_OBJECTS, DAYS, FULL_REFRESH, LOADED, WAREHOUSES, Bucket, Case, Objects
from benchmarks.measure import counting_proxy, run_measured
from benchmarks.real_shape import Dataset
from benchmarks.servers import Servers
from etl.utils.errors import PipelineError
from etl.utils.utils_connection import Settings, connect_postgres

PEER_ARGUMENTS: Mapping[str, Sequence[str]] = {
    "duckdb": (),
    "duckdb-same-work": ("--all-tables",),
    "duckdb-sql": ("--gold-in-postgres",),
}
PEER = ("-m", "benchmarks.peers.duckdb_peer")
WAREHOUSE = "bench_pipeline"
"""Database on which the pipeline is measured."""

SHARED_TABLES = (
    "bronze.csv_snapshots",
    "bronze.leads_parquet",
    "silver.stg_csv_snapshots",
    "silver.stg_leads_parquet",
    "gold.lead_quality_matching",
)
"""Tables that every peer writes."""
ALL_TABLES = (
    *SHARED_TABLES,
    "gold.leads",
    "gold.lead_quality_current",
    "gold.appointments",
    "gold.lead_status_history",
)


def pipeline_program(*arguments: str) -> list[str | Path]:
    return [sys.executable, "main.py", "--log-level", "warning", *arguments]


@dataclass(frozen=True)
class Bench:
    """Servers, contestants and cases of the measurements."""

    folder: Path
    server: str
    servers: Servers
    contestants: Sequence[str]
    cases: Sequence[Case]

    def run(self, program: Sequence[str | Path], settings: Settings, *, counted: bool) -> dict[str, Any]:
        """Measure a program. If its traffic is counted, its times are not valid, because of the proxy."""
        self.servers.analyze_and_checkpoint(settings.postgres_db)
        proxy = counting_proxy(settings.postgres_host, settings.postgres_port) if counted else nullcontext()
        with proxy as counting:
            port, traffic = counting or (settings.postgres_port, None)
            measurement = run_measured(program, settings.model_copy(update={"postgres_port": port}), self.servers)
        if program[1] == "main.py":
            measurement = replace(measurement, step_seconds=self._steps(settings.postgres_db))
        return asdict(measurement) | (asdict(traffic) if traffic else {})

    def _steps(self, database: str) -> dict[str, float]:
        latest = "select steps from meta.pipeline_runs order by started_at desc limit 1"
        steps: list[dict[str, Any]] = self.servers.value(database, latest)
        return {f"{step['step']} {step['title']}": step["seconds"] for step in steps}

    def row_counts(self, database: str, tables: Sequence[str] = ALL_TABLES) -> dict[str, int]:
        """Return the row count of each table, and that of each match scenario of lead_quality_matching."""
        counts: dict[str, int] = {
            table: self.servers.value(database, f"select count(*) from {table}")  # noqa: S608 - constants
            for table in tables
        }
        scenarios = "select email_match, phone_match, count(*) from gold.lead_quality_matching group by 1, 2"
        for email, phone, count in self.servers.rows(database, scenarios):
            counts[f"gold rows, email_match {email}, phone_match {phone}"] = count
        return counts

    def bronze_days(self, database: str) -> set[tuple[int, int]]:
        """Return OID and relfilenode of each partition of bronze. Replacing a day changes both."""
        query = (
            "select relid::oid, pg_relation_filenode(relid) from pg_partition_tree('bronze.csv_snapshots') where isleaf"
        )
        return set(self.servers.rows(database, query))


@dataclass
class Round:
    """A round at one scale on one server."""

    bench: Bench
    scale: str
    dataset: Dataset
    bucket: Bucket
    number: int
    """0 for the untimed round that counts statements and bytes."""

    def __post_init__(self) -> None:
        self.settings = self.bench.servers.settings(WAREHOUSE, self.bucket.name)
        self.runs: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, int] = {}

    def measure(self) -> dict[str, dict[str, Any]]:
        """Measure all runs. Return name of a run → its measurement."""
        load_warehouse(self.bench, self.settings, self.bucket, LOADED, measured=self.run)
        self.expected = self.bench.row_counts(template_name(LOADED))
        self._measure_full_refresh_and_peers()
        for case in self.bench.cases:
            self._run_case(case)
        if "imports" in self.bench.contestants:
            self.run("imports", [sys.executable, "-c", "import pandas, sqlalchemy, boto3"], self.settings)
        self.bucket.hold(BASE_OBJECTS)
        return self.runs

    def run(self, name: str, program: Sequence[str | Path], settings: Settings) -> None:
        turn = f"round {self.number}" if self.number else "counting"
        click.echo(f"{self.bench.server} server, scale {self.scale}, {turn}: {name} … ", nl=False)
        measured = self.runs[name] = self.bench.run(program, settings, counted=self.number == 0)
        click.echo(f"{measured['seconds']:.2f} s" if self.number else "done")

    def _measure_full_refresh_and_peers(self) -> None:
        """Run full refresh and peers in an order that rotates with the rounds, so that none of them is always first."""
        contestants: dict[str, Callable[[], None]] = {
            FULL_REFRESH.name: lambda: self._run_case(FULL_REFRESH),
            **{peer: lambda peer=peer: self._run_peer(peer) for peer in PEER_ARGUMENTS},  # type: ignore[misc]
            "floor": self._run_floor,
        }
        chosen = [name for name in contestants if name in (FULL_REFRESH.name, *self.bench.contestants)]
        for position in range(len(chosen)):
            contestants[chosen[(position + self.number) % len(chosen)]]()

    def _run_case(self, case: Case) -> None:
        bench = self.bench
        bench.servers.copy_database(template_name(case.warehouse), WAREHOUSE)
        self.bucket.hold(case.objects)
        days_before = bench.bronze_days(WAREHOUSE)
        self.run(case.name, pipeline_program(*case.arguments), self.settings)
        loaded_days = len(bench.bronze_days(WAREHOUSE) - days_before)
        if loaded_days != case.loaded_days:
            raise PipelineError(
                f"{case.name}: the run loaded {loaded_days} days into bronze, expected {case.loaded_days}",
                hint="check the objects and the warehouse of this case in benchmarks/cases.py",
            )
        counts = bench.row_counts(WAREHOUSE)
        _check_source_counts(case.name, counts, self.bucket)
        if case.objects == BASE_OBJECTS:
            check_same_rows(case.name, counts, self.expected)

    def _run_peer(self, name: str) -> None:
        settings = self.bench.servers.settings(database_name(name), self.bucket.name)
        self.bucket.hold(BASE_OBJECTS)
        python = self.bench.folder / "peer-venv" / "bin" / "python"
        self.run(name, [python, *PEER, *PEER_ARGUMENTS[name]], settings)
        tables = ALL_TABLES if name == "duckdb-same-work" else SHARED_TABLES
        check_same_rows(name, self.bench.row_counts(settings.postgres_db, tables), self.expected)

    def _run_floor(self) -> None:
        servers = self.bench.servers
        settings, rows = (
            self.bench.servers.settings(database_name("floor"), self.bucket.name),
            self.dataset.folder / "floor",
        )
        if not rows.exists():
            _prepare_floor(self.bench.servers.settings(template_name(LOADED), self.bucket.name), rows)
        servers.recreate_database(settings.postgres_db)
        self.run("floor", [sys.executable, "-m", "benchmarks.floor", rows], settings)
        days = servers.value(settings.postgres_db, "select count(*) from pg_tables where schemaname = 'gold'")
        if days != DAYS:
            raise PipelineError(f"the COPY floor loaded {days} days, expected {DAYS}", hint="see benchmarks/floor.py")


def database_name(contestant: str) -> str:
    return f"bench_{contestant}"


def template_name(warehouse: str) -> str:
    return f"bench_{warehouse}"


def load_warehouse(
    bench: Bench,
    settings: Settings,
    bucket: Bucket,
    warehouse: str,
    *,
    measured: Callable[[str, Sequence[str | Path], Settings], None] | None = None,
) -> None:
    """Load an empty warehouse, and rename it to be the template of cases."""
    objects: Objects = WAREHOUSES[warehouse]
    bucket.hold(objects)
    bench.servers.recreate_database(settings.postgres_db)
    if measured:
        measured("first load", pipeline_program(), settings)
    else:
        click.echo(f"{bench.server} server: loading warehouse {warehouse!r}, the start of cases")
        bench.run(pipeline_program(), settings, counted=False)
    counts = bench.row_counts(settings.postgres_db)
    _check_source_counts(f"the first load ({warehouse})", counts, bucket)
    bench.servers.analyze_and_checkpoint(settings.postgres_db)
    bench.servers.rename_database(settings.postgres_db, template_name(warehouse))


def _prepare_floor(settings: Settings, folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with closing(connect_postgres(settings)) as connection:
        floor.prepare(connection, unfinished)
    unfinished.rename(folder)


def _check_source_counts(name: str, counts: Mapping[str, int], bucket: Bucket) -> None:
    """Raise unless bronze contains every record of the bucket's files."""
    found, expected = (counts["bronze.csv_snapshots"], counts["bronze.leads_parquet"]), bucket.records()
    if found != expected:
        raise PipelineError(
            f"{name}: rows in bronze (snapshots, leads): {found}, expected {expected}",
            hint="runs that do not load every record cannot be compared",
        )


def check_same_rows(name: str, counts: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Raise unless the row counts equal those of the first load. A peer may lack some of the tables."""
    differing = {
        what: (counts.get(what), expected.get(what))
        for what in counts.keys() | (expected.keys() - set(ALL_TABLES))
        if counts.get(what) != expected.get(what)
    }
    if differing:
        raise PipelineError(
            f"{name}: row counts differ from those of the first load (found, expected): {differing}",
            hint="programs that do different work cannot be compared",
        )
