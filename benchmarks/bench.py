"""Benchmark of the pipeline, DuckDB scripts and the COPY floor, on dedicated servers (`make bench`).

Measured at several scales (copies of the real files, see `real_shape`), on the embedded PostgreSQL and on that of the
distribution with default settings. Every round consists of a first load, a full refresh, the peers, and the cases of
daily operation (see `cases`), so that changes in the machine's speed affect all of them alike. On the first server, an
additional, untimed round counts statements and bytes through a proxy. Row counts are checked after each run.

All files are in one folder, by default .local/bench. It keeps the data sets, the embedded cluster and the peers'
virtual environment for later runs.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks import report
from benchmarks.cases import CASES, DEFAULT_CASES, LOADED, WAREHOUSES, Bucket, Case
from benchmarks.documents import write_between
from benchmarks.real_shape import REAL_FILES, Dataset, ensure_dataset
from benchmarks.rounds import (
    PEER_ARGUMENTS,
    SHARED_TABLES,
    WAREHOUSE,
    Bench,
    Round,
    database_name,
    load_warehouse,
    pipeline_program,
    template_name,
)
from benchmarks.servers import KINDS, Servers, is_available, running_servers
from etl.local.s3_server import upload_folder
from etl.utils.errors import PipelineError
from etl.utils.utils_connection import PROJECT, s3_client

CONTESTANTS = ("pipeline", *PEER_ARGUMENTS, "floor", "imports", "one-file")
ONE_FILE_ROWS = 5_000_000
ONE_FILE_SCALE = "100"
"""Scale of the data set whose rows the large file repeats, and whose leads it matches."""

INTRODUCTION = Path(__file__).with_name("introduction.md")
"""Beginning of docs/performance.md: contestants, cases, servers, usage."""


# --- data sets and environments ---------------------------------------------------------------------------------------


def make_dataset(folder: Path, scale: int, source: Path) -> Dataset:
    """Create the data set of a scale, in a child process, so that the memory of this process stays small."""
    target = folder / f"data-{scale}"
    arguments = ["--copies", str(scale), "--target", str(target), "--source", str(source)]
    subprocess.run([sys.executable, "-m", "benchmarks.real_shape", *arguments], cwd=PROJECT, check=True)  # noqa: S603
    return ensure_dataset(target, scale, source)


def make_one_file(dataset: Dataset) -> Path:
    """Return a folder with the leads file and one CSV file of five million rows: days 1 to 5, repeated.

    Creates it if it does not exist.
    """
    target, base = dataset.folder / "one-file", dataset.folder / "base"
    if target.exists():
        return target
    unfinished = target.with_name("one-file.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "SFTP").mkdir(parents=True)
    shutil.copytree(base / "parquet", unfinished / "parquet")
    remaining = ONE_FILE_ROWS
    with (unfinished / "SFTP" / "data_1.csv").open("wb") as file:
        while remaining:
            for number in range(1, 6):  # these have the same header and no separator row
                with (base / "SFTP" / f"data_{number}.csv").open("rb") as part:
                    header = next(part)
                    if not file.tell():
                        file.write(header)
                    for line in part:
                        if not remaining:
                            break
                        file.write(line)
                        remaining -= 1
    unfinished.rename(target)
    return target


def make_peer_environment(folder: Path) -> str:
    """Create the peers' virtual environment, unless its requirements are unchanged. Return the version of DuckDB."""
    environment, requirements = folder / "peer-venv", PROJECT / "benchmarks/peers/requirements.txt"
    installed = environment / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)  # noqa: S603
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)  # noqa: S603
        installed.write_text(requirements.read_text())
    return next(line.split("==")[1] for line in requirements.read_text().splitlines() if line.startswith("duckdb=="))


# --- measurements -----------------------------------------------------------------------------------------------------


def measure_scale(bench: Bench, dataset: Dataset, rounds: int, *, counts: bool) -> dict[str, Any]:
    scale = str(dataset.copies)
    settings = bench.servers.settings(WAREHOUSE, f"data-{scale}")
    bucket = Bucket(settings, dataset)
    try:
        for warehouse in {case.warehouse for case in bench.cases} - {LOADED}:
            load_warehouse(bench, settings, bucket, warehouse)
        for peer in PEER_ARGUMENTS:
            bench.servers.recreate_database(database_name(peer))
        counted = Round(bench, scale, dataset, bucket, 0).measure() if counts else {}
        timed = [Round(bench, scale, dataset, bucket, number).measure() for number in range(1, rounds + 1)]
        return {"rounds": timed, "counts": counted, "rows": bench.row_counts(template_name(LOADED))}
    finally:
        for database in (
            WAREHOUSE,
            *map(template_name, WAREHOUSES),
            *map(database_name, (*PEER_ARGUMENTS, "floor")),
        ):
            bench.servers.drop_database(database)


def measure_one_file(bench: Bench, data: Path, rounds: int) -> dict[str, Any]:
    settings = bench.servers.settings(WAREHOUSE, "one-file")
    upload_folder(s3_client(settings), settings.s3_bucket_name, data)
    measured = []
    for number in range(1, rounds + 1):
        click.echo(
            f"{bench.server} server, one file of {ONE_FILE_ROWS:,} rows, round {number}: first load … ", nl=False
        )
        bench.servers.recreate_database(settings.postgres_db)
        measured.append({"first load": bench.run(pipeline_program(), settings, counted=False)})
        click.echo(f"{measured[-1]['first load']['seconds']:.2f} s")
    rows = bench.row_counts(settings.postgres_db, SHARED_TABLES)
    bench.servers.drop_database(settings.postgres_db)
    return {"rounds": measured, "rows": rows}


def describe_machine(duckdb: str, rounds: int, data: str) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "duckdb": duckdb,
        "rounds": rounds,
        "data": data,
    }


def measure(
    folder: Path,
    *,
    kinds: Sequence[str],
    scales: Sequence[int],
    rounds: int,
    contestants: Sequence[str],
    cases: Sequence[Case],
    counts: bool,
    source: Path,
) -> dict[str, Any]:
    """Create data sets and servers, measure all scales on each server, and update results.json after each."""
    folder.mkdir(parents=True, exist_ok=True)
    one_file = "one-file" in contestants
    needed = dict.fromkeys((*scales, *([int(ONE_FILE_SCALE)] if one_file else [])))
    datasets = {scale: make_dataset(folder, scale, source) for scale in needed}
    one_file_data = make_one_file(datasets[int(ONE_FILE_SCALE)]) if one_file else None
    has_peer = not set(PEER_ARGUMENTS).isdisjoint(contestants)
    duckdb = make_peer_environment(folder) if has_peer else "not measured"
    data = next(iter(datasets.values())).source if datasets else ""
    results: dict[str, Any] = {"machine": describe_machine(duckdb, rounds, data), "servers": {}}

    def keep() -> None:
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    for kind in kinds:
        with running_servers(folder / "postgres", kind) as servers:
            found: dict[str, Any] = {"postgres": _version(servers), "scales": {}}
            results["servers"][kind] = found
            bench = Bench(folder, kind, servers, contestants, cases)
            for scale in scales:
                found["scales"][str(scale)] = measure_scale(
                    bench, datasets[scale], rounds, counts=counts and kind == kinds[0]
                )
                keep()
            if one_file_data:
                found["one file"] = measure_one_file(bench, one_file_data, rounds)
                keep()
    return results


def _version(servers: Servers) -> str:
    return str(servers.value("postgres", "show server_version")).split()[0]


# --- command line -----------------------------------------------------------------------------------------------------


def chosen_servers(choice: str) -> list[str]:
    """Return the servers to measure on. `both` skips a server that is not installed."""
    if choice != "both":
        return [choice]
    missing = [kind for kind in KINDS if not is_available(kind)]
    for kind in missing:
        click.echo(
            f"Skipping the {kind} server: the distribution's PostgreSQL, 15 or later, is not installed.", err=True
        )
    return [kind for kind in KINDS if kind not in missing]


def listed(option: str, known: Sequence[str], value: str) -> list[str]:
    """Return the values of a comma-separated option.

    Raises:
        UsageError: names the unknown values.
    """
    values = list(dict.fromkeys(value.split(",")))
    if unknown := [name for name in values if name not in known]:
        raise click.UsageError(f"{option}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    return values


_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--scale", "scales", multiple=True, type=click.IntRange(1), default=(1, 10, 100), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Timed rounds per scale.")
@click.option(
    "--server", type=click.Choice([*KINDS, "both"]), default="both", show_default=True, help="PostgreSQL to measure on."
)
@click.option(
    "--only", default=",".join(CONTESTANTS), show_default=True, help="Contestants to measure besides the pipeline."
)
@click.option(
    "--cases",
    default=",".join(case.option for case in DEFAULT_CASES),
    show_default=True,
    help="Cases to measure; also available: late-leads. Empty: none.",
)
@click.option("--counts/--no-counts", default=True, help="Count statements and bytes in an untimed round.")
@click.option(
    "--folder",
    type=_folder,
    default=Path(".local/bench"),
    show_default=True,
    help="Folder of the data sets, the cluster, the peers' environment and results.json.",
)
@click.option("--source", type=_folder, default=REAL_FILES, help="Folder of the real files.  [default: ../shared/real]")
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Document to write the tables to.")
def main(**options: Any) -> None:
    """Measure the pipeline, DuckDB scripts that do the same work, and the COPY floor."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM stops the servers, too
    contestants = listed("--only", CONTESTANTS, options["only"])
    wanted = listed("--cases", [case.option for case in CASES], options["cases"]) if options["cases"] else []
    try:
        results = measure(
            options["folder"].resolve(),
            kinds=chosen_servers(options["server"]),
            scales=list(dict.fromkeys(options["scales"])),
            rounds=options["rounds"],
            contestants=contestants,
            cases=[case for case in CASES if case.option in wanted],
            counts=options["counts"],
            source=options["source"].resolve(),
        )
    except PipelineError as error:
        raise click.ClickException(str(error)) from error
    tables = report.render(results)
    click.echo(f"\n{tables}")
    if options["write"]:
        write_document(options["write"], tables)


def write_document(path: Path, tables: str) -> None:
    """Write the introduction and the tables to a document, and keep the text after them."""
    if not path.exists():
        path.write_text(f"{report.BEGIN}\n{report.END}\n", encoding="utf-8")
    write_between(path, report.BEGIN, report.END, tables)
    _, begin, rest = path.read_text(encoding="utf-8").partition(report.BEGIN)
    path.write_text(f"{INTRODUCTION.read_text(encoding='utf-8')}{begin}{rest}", encoding="utf-8")


if __name__ == "__main__":
    main()
