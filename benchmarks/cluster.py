"""`make bench-cluster`: what a Dask cluster gains and costs on this machine, and what a model of it foretells.

Measured, on an embedded PostgreSQL and an S3 stand-in, with workers of one thread each:

- extracting and cleaning all days, PostgreSQL left out (what comes of a day is counted), with 1, 2 and 4 workers, and
  with S3 answering at once or late;
- a whole first load by the threads of this machine and by as many workers;
- what rows weigh in each layer, and what they cost PostgreSQL.

The model (`benchmarks/simulation.py`) is given what one worker took, and held against all other points.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.measure import environment_of, run_measured
from benchmarks.servers import Servers, running_servers
from benchmarks.simulation import Day, Hosts, seconds_for
from etl.step2_load_to_postgres import PIECE_SIZE
from etl.utils.embedded import upload_folder
from etl.utils.extract import read_snapshot_pieces
from etl.utils.sample_data import ensure_sample
from etl.utils.source import SnapshotFile, discover_snapshots, fetch
from etl.utils.transform import clean_csv
from etl.utils.utils_connection import PROJECT, Settings, s3_client

BEGIN, END = "<!-- make bench-cluster -->", "<!-- end of make bench-cluster -->"
"""What stands between these two in docs/scale.md is written by this."""

SCALE = "10"
WORKERS = (1, 2, 4)
LATENCIES = (0.0, 0.25, 1.0)
"""Seconds until S3 answers. Beside a file of this size, a slow one."""
LAYERS = ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching")


# --- what is measured -------------------------------------------------------------------------------------------------


def extract_and_clean(settings: Settings, latency: float, file: SnapshotFile) -> int:
    """All that is done to a day but for PostgreSQL. Returns its rows."""
    time.sleep(latency)
    raw, today = fetch(s3_client(settings), file), datetime.now(UTC).date()
    return sum(len(clean_csv(piece.rows).rows) for piece in read_snapshot_pieces(raw, file, today, PIECE_SIZE))


@dataclass(frozen=True)
class Point:
    """All days, extracted and cleaned."""

    workers: int
    latency: float
    seconds: float


@contextmanager
def dask_workers(settings: Settings, count: int) -> Iterator[Any]:
    """A scheduler and so many workers of one thread, each a process, with the settings in their environment."""
    from distributed import Client, LocalCluster

    os.environ.update(environment_of(settings) | {"AWS_EC2_METADATA_DISABLED": "true"})
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def seconds_of_stage(executor: Executor, settings: Settings, files: Sequence[SnapshotFile], latency: float) -> float:
    began = time.perf_counter()
    rows = sum(executor.map(partial(extract_and_clean, settings, latency), files))
    assert rows, "nothing was extracted"  # noqa: S101 - a benchmark of nothing
    return time.perf_counter() - began


def measure_stage(settings: Settings, rounds: int) -> tuple[list[Point], list[Point]]:
    """Medians by workers of Dask, and by threads of this process."""
    from etl.utils.cluster import _TaskExecutor

    files = discover_snapshots(s3_client(settings), settings).files
    executors: list[tuple[str, int, Callable[[], Any]]] = [
        *(("dask", count, partial(dask_workers, settings, count)) for count in WORKERS),
        ("threads", 2, partial(ThreadPoolExecutor, 2)),
    ]
    taken: dict[tuple[str, int, float], list[float]] = {}
    for _ in range(rounds):  # interleaved, so that all see the same moods of the machine
        for kind, count, start in executors:
            with start() as started:
                executor = _TaskExecutor(started) if kind == "dask" else started
                seconds_of_stage(executor, settings, files[: 2 * count], 0.0)  # imports, connections
                for latency in LATENCIES:
                    seconds = seconds_of_stage(executor, settings, files, latency)
                    taken.setdefault((kind, count, latency), []).append(seconds)
                    click.echo(f"{count} of {kind}, S3 after {latency} s: {seconds:.2f} s")
    points = {key: Point(key[1], key[2], median(seconds)) for key, seconds in taken.items()}
    return tuple([point for key, point in points.items() if key[0] == kind] for kind in ("dask", "threads"))  # type: ignore[return-value]


def measure_loads(servers: Servers, settings: Settings, rounds: int) -> tuple[list[tuple[float, float]], Any]:
    """First loads by two threads and by two workers, in pairs; and the last one's measurement."""
    program = [sys.executable, "main.py", "--log-level", "warning"]
    pairs = []
    with dask_workers(settings, 2) as client:
        address = client.scheduler.address
        for _ in range(rounds):
            seconds = []
            for arguments in (["--workers", "2"], ["--scheduler", address]):
                servers.remake_database(settings.postgres_db)
                servers.settle("postgres")
                measured = run_measured([*program, *arguments], settings, servers)
                seconds.append(measured.seconds)
                click.echo(f"first load, {arguments[0]}: {measured.seconds:.2f} s")
                if arguments[0] == "--workers":
                    threads = measured
            pairs.append((seconds[0], seconds[1]))
    return pairs, threads


def measure_rows(servers: Servers, settings: Settings) -> dict[str, tuple[int, int]]:
    """Rows and bytes of each layer, indexes included; and of all there is, for each row of silver."""
    found = {}
    for table in LAYERS:
        rows, size = servers.rows(
            settings.postgres_db,
            f"select (select count(*) from {table}), sum(pg_total_relation_size(relid))::bigint "  # noqa: S608
            f"from pg_partition_tree('{table}')",
        )[0]
        found[table] = (int(rows), int(size))
    whole = servers.value(settings.postgres_db, "select pg_database_size(current_database())")
    return found | {"all of the database": (found[LAYERS[1]][0], int(whole))}


# --- what it says -----------------------------------------------------------------------------------------------------


def report(results: Mapping[str, Any]) -> str:
    points = [Point(**point) for point in results["dask"]]
    threads = [Point(**point) for point in results["threads"]]
    rows = results["rows"]
    days, cores = results["days"], results["cores"]
    one = next(point for point in points if (point.workers, point.latency) == (1, 0.0))
    per_day = one.seconds / days
    silver_rows = rows["silver.stg_csv_snapshots"][0]
    loads = results["loads"]
    by_cluster = median(cluster / alone for alone, cluster in loads)
    alone = next(point for point in threads if point.latency == 0.0)
    two = next(point for point in points if (point.workers, point.latency) == (2, 0.0))
    lines = [
        f"{results['date']}, {cores} cores, Python {results['python']}, scale {results['scale']}: {days} days, "
        f"{silver_rows:,} rows; medians of {results['rounds']} rounds.",
        "",
        f"- Extracting and cleaning: **{silver_rows / one.seconds:,.0f} rows a second** and core; two workers do "
        f"**{one.seconds / two.seconds:.2f} times** what one does (asked for: 1.7).",
        f"- Two workers against two threads: extracting and cleaning takes {two.seconds / alone.seconds:.2f} of the "
        f"time, a whole first load {by_cluster:.2f} (asked for: at most 1.15).",
        f"- PostgreSQL: {results['server_cpu_seconds'] / silver_rows * 1e6:.0f} µs of a core for each row, from bronze "
        "to gold and its tables of leads.",
        "",
        "| workers | S3 answers after | measured | foretold | off by |",
        "|---:|---:|---:|---:|---:|",
    ]
    for point in points:
        foretold = seconds_for(days, Day(point.latency, per_day), Hosts(point.workers, cores))
        given = (point.workers, point.latency) == (1, 0.0)
        off = "given" if given else f"{foretold / point.seconds - 1:+.0%}"
        lines.append(f"| {point.workers} | {point.latency} s | {point.seconds:.2f} s | {foretold:.2f} s | {off} |")
    lines += ["", "| table | rows | bytes a row |", "|---|---:|---:|"]
    lines += [f"| {table} | {count:,} | {size / count:,.0f} |" for table, (count, size) in rows.items()]
    return "\n".join([*lines, "", *foretold_table(results, per_day)])


def foretold_table(results: Mapping[str, Any], per_day: float) -> Iterator[str]:
    """A night of many clients' files, each of the size of the measured ones."""
    of_postgres = results["server_cpu_seconds"] / results["days"]
    day = Day(0.05, per_day, of_postgres)
    yield (
        f"Foretold, for files of {results['rows']['silver.stg_csv_snapshots'][0] // results['days']:,} rows that S3 "
        f"answers after 0.05 s ({per_day:.2f} s of a worker's core each, {of_postgres:.2f} s of PostgreSQL's):"
    )
    yield ""
    cores = (4, 16, 64)
    yield "| files a night | workers, a core each | " + " | ".join(f"PostgreSQL of {n} cores" for n in cores) + " |"
    yield "|---:|---:|" + "---:|" * len(cores)
    for files in (100, 1_000, 10_000):
        for workers in (4, 16, 64):
            taken = [seconds_for(files, day, Hosts(workers, workers, n)) for n in cores]
            yield f"| {files:,} | {workers} | " + " | ".join(_in_words(seconds) for seconds in taken) + " |"


def _in_words(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".local/bench"), show_default=True)
@click.option("--write", type=click.Path(path_type=Path, exists=True), help="Put the figures into this document.")
def main(rounds: int, folder: Path, write: Path | None) -> None:
    """Measure what a Dask cluster gains and costs on this machine."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sample = folder / f"sample-{SCALE}"
    days = ensure_sample(sample, scale=float(SCALE)).days
    os.chdir(PROJECT)
    with running_servers(folder / "postgres") as servers:
        settings = servers.settings("bench_cluster", f"cluster-{SCALE}")
        servers.remake_database(settings.postgres_db)
        upload_folder(s3_client(settings), settings.s3_bucket_name, sample)
        dask, threads = measure_stage(settings, rounds)
        loads, load = measure_loads(servers, settings, rounds)
        rows = measure_rows(servers, settings)
    results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "scale": SCALE,
        "days": days,
        "rounds": rounds,
        "dask": [asdict(point) for point in dask],
        "threads": [asdict(point) for point in threads],
        "loads": loads,
        "server_cpu_seconds": load.server_cpu_seconds,
        "rows": rows,
    }
    (folder / "cluster.json").write_text(json.dumps(results, indent=1))
    text = report(results)
    click.echo(text)
    if write:
        before, _, rest = write.read_text(encoding="utf-8").partition(BEGIN)
        write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
