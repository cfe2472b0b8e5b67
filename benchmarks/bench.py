"""`make bench`: the pipeline against a DuckDB script and the COPY floor, on servers of its own, interleaved.

Every round makes an empty warehouse and takes it through its life (first load, full refresh, unchanged rerun, one new
day), with its rivals in between, so that all of them see the same moods of the machine. A round before those is not
timed: it goes through a proxy that counts statements and bytes. After each load the rows of all are held against each
other.

Everything lies in one folder, by default .local/bench; samples, cluster and the peer's environment stay for next time.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg2

from benchmarks import floor, report
from benchmarks.measure import counting_proxy, run_measured
from benchmarks.servers import Servers, running_servers
from etl.utils.embedded import upload_folder
from etl.utils.errors import PipelineError
from etl.utils.utils_connection import PROJECT, Settings, s3_client

CONTESTANTS = ("pipeline", "duckdb", "duckdb-sql", "floor", "imports", "one-file")
PEERS = Path(__file__).with_name("peers")
DAYS = 22
ONE_FILE_ROWS = 5_000_000
ONE_FILE_SCALE = "100"
"""The one large file is made of this sample's files, and goes with its leads."""

INTRODUCTION = f"""\
# Performance

How long the pipeline takes, against rivals on the same servers at the same time:

- **DuckDB**: `benchmarks/peers/duckdb_peer.py`, a script by which DuckDB reads the same files and writes the same rows.
- **DuckDB, SQL**: the same script with gold in SQL inside PostgreSQL, as most people would write it.
- **COPY floor**: `benchmarks/floor.py`, ready-made rows that PostgreSQL takes in and joins: nothing can be faster.

They write bronze, silver and `gold.lead_quality_matching`. The tables of leads (`leads`, `lead_quality_current`,
`appointments`, `lead_status_history`) are made by the pipeline alone, so it does more than they do.

`make bench` measures whole processes, the start of Python included, on an embedded PostgreSQL and an S3 stand-in, and
writes what follows. Between two runs PostgreSQL is brought to rest (`analyze`, `checkpoint`); autovacuum is off,
as it would fall now on one run and now on another.

{report.BEGIN}
{report.END}
"""


@dataclass(frozen=True)
class Lab:
    """Where everything is measured."""

    folder: Path
    servers: Servers
    contestants: Sequence[str]

    def settings(self, contestant: str, scale: str) -> Settings:
        return self.servers.settings(f"bench_{contestant}", f"sample-{scale}")

    def run(self, program: Sequence[str | Path], settings: Settings, counted: bool) -> dict[str, Any]:
        """Measure a program; when its traffic is counted, its times mean nothing."""
        self.servers.settle(settings.postgres_db)
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


# --- what is run ------------------------------------------------------------------------------------------------------


def pipeline_program(*arguments: str) -> list[str | Path]:
    return [sys.executable, "main.py", "--log-level", "warning", *arguments]


def one_round(lab: Lab, scale: str, turn: int, *, counted: bool) -> dict[str, dict[str, Any]]:
    """Take a warehouse through its life. Returns the measurement of each run."""
    done: dict[str, dict[str, Any]] = {}
    pipeline = lab.settings("pipeline", scale)

    def run(name: str, program: Sequence[str | Path], settings: Settings) -> None:
        click.echo(f"scale {scale}, {f'round {turn}' if turn else 'counting'}: {name} … ", nl=False)
        done[name] = lab.run(program, settings, counted)
        click.echo("done" if counted else f"{done[name]['seconds']:.2f} s")

    lab.servers.remake_database(pipeline.postgres_db)
    run("first load", pipeline_program(), pipeline)
    expected = row_counts(lab, pipeline.postgres_db)

    rivals: dict[str, Callable[[], None]] = {
        "full refresh": lambda: run("full refresh", pipeline_program("--full-refresh"), pipeline),
        "duckdb": lambda: _run_peer(lab, scale, run, "duckdb"),
        "duckdb-sql": lambda: _run_peer(lab, scale, run, "duckdb-sql", "--gold-in-postgres"),
        "floor": lambda: _run_floor(lab, scale, run),
    }
    wanted = [name for name in rivals if name in ("full refresh", *lab.contestants)]
    for position in range(len(wanted)):
        name = wanted[(position + turn) % len(wanted)]  # nobody is always the first
        rivals[name]()
        if name != "floor":
            _check_same(name, row_counts(lab, f"bench_{'pipeline' if name == 'full refresh' else name}"), expected)

    run("unchanged", pipeline_program(), pipeline)
    if "imports" in lab.contestants:
        run("imports", [sys.executable, "-c", "import pandas, sqlalchemy, boto3"], pipeline)
    new_day = f"SFTP/data_{DAYS + 1}.csv"
    client = s3_client(pipeline)
    client.upload_file(str(lab.folder / f"new-day-{scale}" / new_day), pipeline.s3_bucket_name, new_day)
    try:
        run("new day", pipeline_program(), pipeline)
    finally:
        client.delete_object(Bucket=pipeline.s3_bucket_name, Key=new_day)
    return done


def _run_peer(
    lab: Lab, scale: str, run: Callable[[str, Sequence[str | Path], Settings], None], name: str, *arguments: str
) -> None:
    python = lab.folder / "peer-venv" / "bin" / "python"
    run(name, [python, PEERS / "duckdb_peer.py", *arguments], lab.settings(name, scale))


def _run_floor(lab: Lab, scale: str, run: Callable[[str, Sequence[str | Path], Settings], None]) -> None:
    settings, rows = lab.settings("floor", scale), lab.folder / f"floor-{scale}"
    if not rows.exists():
        _prepare_floor(lab, scale, rows)
    lab.servers.remake_database(settings.postgres_db)
    run("floor", [sys.executable, "-m", "benchmarks.floor", rows], settings)
    tables = "select count(*) from pg_tables where schemaname = 'gold'"
    if lab.servers.value(settings.postgres_db, tables) != DAYS:
        raise PipelineError("the COPY floor has not filled every day", hint="see benchmarks/floor.py")


def _prepare_floor(lab: Lab, scale: str, folder: Path) -> None:
    settings = lab.settings("pipeline", scale)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    connection = psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=settings.postgres_password.get_secret_value(),
        dbname=settings.postgres_db,
    )
    with closing(connection):
        floor.prepare(connection, unfinished)
    unfinished.rename(folder)


TABLES = (
    "bronze.csv_snapshots",
    "bronze.leads_parquet",
    "silver.stg_csv_snapshots",
    "silver.stg_leads_parquet",
    "gold.lead_quality_matching",
)


def row_counts(lab: Lab, database: str) -> dict[str, int]:
    """The rows of every table, and those of gold by the way they matched."""
    counts: dict[str, int] = {table: lab.servers.value(database, f"select count(*) from {table}") for table in TABLES}  # noqa: S608
    scenarios = "select email_match, phone_match, count(*) from gold.lead_quality_matching group by 1, 2"
    for email, phone, count in lab.servers.rows(database, scenarios):
        counts[f"gold rows, email_match {email}, phone_match {phone}"] = count
    return counts


def _check_same(name: str, counts: Mapping[str, int], expected: Mapping[str, int]) -> None:
    if counts != expected:
        raise PipelineError(
            f"{name} came to other rows than the first load: {counts} instead of {expected}",
            hint="what does not do the same work cannot be compared",
        )


# --- what it needs ----------------------------------------------------------------------------------------------------


def make_samples(folder: Path, scale: str) -> None:
    """The 22 files, and the one of the day after. Another process makes them: this one must stay small."""
    _make_sample(folder / f"sample-{scale}", scale, DAYS)
    new_day = folder / f"new-day-{scale}"
    file = new_day / "SFTP" / f"data_{DAYS + 1}.csv"
    if not file.exists():
        longer = folder / f"longer-{scale}"
        _make_sample(longer, scale, DAYS + 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        (longer / "SFTP" / file.name).rename(file)
        shutil.rmtree(longer)


def _make_sample(target: Path, scale: str, days: int) -> None:
    arguments = ["--target", str(target), "--scale", scale, "--days", str(days)]
    command = [sys.executable, "-m", "etl.utils.sample_data", *arguments]
    subprocess.run(command, cwd=PROJECT, check=True)  # noqa: S603


def make_one_file(folder: Path) -> None:
    """One file of five million rows: those of the first days of a sample, again and again; and its leads."""
    target, sample = folder / "sample-one-file", folder / f"sample-{ONE_FILE_SCALE}"
    if target.exists():
        return
    unfinished = folder / "sample-one-file.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "SFTP").mkdir(parents=True)
    shutil.copytree(sample / "parquet", unfinished / "parquet")
    remaining = ONE_FILE_ROWS
    with (unfinished / "SFTP" / "data_1.csv").open("wb") as file:
        while remaining:
            for number in range(1, 6):  # the same header, and no separator
                with (sample / "SFTP" / f"data_{number}.csv").open("rb") as part:
                    header = next(part)
                    if not file.tell():
                        file.write(header)
                    for line in part:
                        if not remaining:
                            break
                        file.write(line)
                        remaining -= 1
    unfinished.rename(target)


def make_peer_environment(folder: Path) -> str:
    """The peer's own virtual environment, made anew when its requirements have changed. Returns DuckDB's version."""
    environment, requirements = folder / "peer-venv", PEERS / "requirements.txt"
    installed = environment / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)  # noqa: S603
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)  # noqa: S603
        installed.write_text(requirements.read_text())
    return next(line.split("==")[1] for line in requirements.read_text().splitlines() if line.startswith("duckdb=="))


def measure_one_file(lab: Lab, rounds: int) -> dict[str, Any]:
    settings = lab.settings("pipeline", "one-file")
    upload_folder(s3_client(settings), settings.s3_bucket_name, lab.folder / "sample-one-file")
    done = []
    for turn in range(1, rounds + 1):
        click.echo(f"one file of {ONE_FILE_ROWS:,} rows, round {turn}: first load … ", nl=False)
        lab.servers.remake_database(settings.postgres_db)
        done.append({"first load": lab.run(pipeline_program(), settings, counted=False)})
        click.echo(f"{done[-1]['first load']['seconds']:.2f} s")
    return {"rounds": done, "rows": row_counts(lab, settings.postgres_db)}


def measure_scale(lab: Lab, scale: str, rounds: int, *, counts: bool) -> dict[str, Any]:
    settings = lab.settings("pipeline", scale)
    upload_folder(s3_client(settings), settings.s3_bucket_name, lab.folder / f"sample-{scale}")
    for contestant in ("duckdb", "duckdb-sql", "floor"):
        lab.servers.remake_database(lab.settings(contestant, scale).postgres_db)
    counted = one_round(lab, scale, 0, counted=True) if counts else {}
    timed = [one_round(lab, scale, turn, counted=False) for turn in range(1, rounds + 1)]
    return {"rounds": timed, "counts": counted, "rows": row_counts(lab, settings.postgres_db)}


def describe_machine(servers: Servers, duckdb: str, rounds: int) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "postgres": servers.value("postgres", "show server_version"),
        "duckdb": duckdb,
        "rounds": rounds,
    }


# --- the command line -------------------------------------------------------------------------------------------------


@click.command()
@click.option("--scale", "scales", multiple=True, default=("1", "10", "100"), show_default=True, help="Size of sample.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Timed rounds per scale.")
@click.option(
    "--only", default=",".join(CONTESTANTS), show_default=True, help="Who takes part; the pipeline always does."
)
@click.option("--counts/--no-counts", default=True, help="First an untimed round that counts statements and bytes.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".local/bench"),
    show_default=True,
    help="Samples, cluster, peer's environment, results.json.",
)
@click.option(
    "--write", type=click.Path(dir_okay=False, path_type=Path), help="Put the tables into this document, too."
)
def main(scales: Sequence[str], rounds: int, only: str, counts: bool, folder: Path, write: Path | None) -> None:
    """Measure the pipeline, DuckDB scripts that do the same, and the COPY floor."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends the bench, it stops its servers
    contestants = only.split(",")
    if unknown := set(contestants) - set(CONTESTANTS):
        raise click.UsageError(f"--only knows {', '.join(CONTESTANTS)}, and not {', '.join(sorted(unknown))}")
    try:
        results = measure(folder.resolve(), list(dict.fromkeys(scales)), rounds, contestants, counts=counts)
    except PipelineError as error:
        raise click.ClickException(str(error)) from error
    tables = report.render(results)
    click.echo(f"\n{tables}")
    if write:
        document = write.read_text(encoding="utf-8") if write.exists() else INTRODUCTION
        write.write_text(report.replace_between_markers(document, tables), encoding="utf-8")


def measure(
    folder: Path, scales: Sequence[str], rounds: int, contestants: Sequence[str], *, counts: bool
) -> dict[str, Any]:
    """Make what is needed, measure all scales, and keep the results in results.json as they come."""
    folder.mkdir(parents=True, exist_ok=True)
    one_file = "one-file" in contestants
    for scale in dict.fromkeys((*scales, *([ONE_FILE_SCALE] if one_file else []))):
        make_samples(folder, scale)
    if one_file:
        make_one_file(folder)
    has_peer = not {"duckdb", "duckdb-sql"}.isdisjoint(contestants)
    duckdb = make_peer_environment(folder) if has_peer else "not measured"
    with running_servers(folder / "postgres") as servers:
        lab = Lab(folder, servers, contestants)
        results: dict[str, Any] = {"machine": describe_machine(servers, duckdb, rounds), "scales": {}}
        try:
            for scale in scales:
                results["scales"][scale] = measure_scale(lab, scale, rounds, counts=counts)
                _keep(results, folder)
            if one_file:
                results["one file"] = measure_one_file(lab, rounds)
                _keep(results, folder)
        finally:
            for contestant in ("pipeline", "duckdb", "duckdb-sql", "floor"):
                servers.drop_database(f"bench_{contestant}")
    return results


def _keep(results: Mapping[str, Any], folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
