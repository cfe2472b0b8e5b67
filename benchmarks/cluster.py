"""Benchmark of a Dask cluster on this machine, compared with a simulation (`make bench-cluster`).

Measured with workers of one thread each:

- extracting and cleaning all days without PostgreSQL (rows are only counted), with 1, 2 and 4 workers and several S3
  latencies. A file server replaces S3, because the usual stand-in would take a core from the workers;
- a whole first load by two threads and by two workers, with an embedded PostgreSQL and the usual S3 stand-in;
- size of the rows in each layer of PostgreSQL, and CPU time of PostgreSQL.

The simulation (`benchmarks/simulation.py`) takes the measurement of one worker as input, and is compared with all
others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import simulation
from benchmarks.documents import write_between
from benchmarks.measure import environment_of, run_measured
from benchmarks.servers import Servers, running_servers
from benchmarks.simulation import Hosts, seconds_for
from etl.local.s3_server import upload_folder
from etl.local.sample_data import write_sample
from etl.step2_load_to_postgres import CHUNK_SIZE
from etl.utils.day import Day
from etl.utils.extract import read_snapshot_chunks
from etl.utils.s3_source import SnapshotFile, download
from etl.utils.transform import clean_csv
from etl.utils.utils_connection import PROJECT, Settings, s3_client

BEGIN, END = "<!-- make bench-cluster -->", "<!-- end of make bench-cluster -->"
"""The text between these markers in docs/scale.md is generated."""

SCALE, LARGE_SCALE = "10", "100"
WORKERS = (1, 2, 4)
LATENCIES = {SCALE: (0.0, 0.25, 1.0), LARGE_SCALE: (0.0,)}
"""Scale → S3 latencies to measure, in seconds."""
LAYERS = ("bronze.csv_snapshots", "silver.stg_csv_snapshots", "gold.lead_quality_matching")


# --- measurements -----------------------------------------------------------------------------------------------------


def extract_and_clean(settings: Settings, latency: float, file: SnapshotFile) -> int:
    """Extract and clean a day without loading it. Return its number of rows."""
    time.sleep(latency)
    raw, today = download(s3_client(settings), file), datetime.now(UTC).date()
    return sum(len(clean_csv(chunk.rows).rows) for chunk in read_snapshot_chunks(raw, file, today, CHUNK_SIZE))


@dataclass(frozen=True)
class Point:
    """Measurement of extracting and cleaning all days."""

    scale: str
    workers: int
    latency: float
    seconds: float
    scheduling: float
    """CPU seconds of scheduler and driver, which run in this process."""


@contextmanager
def dask_workers(settings: Settings, count: int) -> Iterator[Any]:
    """Start a scheduler, and one-thread workers in processes with the settings in their environment."""
    from distributed import Client, LocalCluster

    os.environ.update(environment_of(settings))
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class _Files(SimpleHTTPRequestHandler):
    """Handler that serves files like S3 objects, as far as `download` needs it."""

    protocol_version = "HTTP/1.1"  # keep-alive

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Copy the file in the kernel, by sendfile."""
        outputfile.flush()
        self.connection.sendfile(source)

    def log_message(self, *_: Any) -> None:
        """Suppress the log line of each request."""


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Serve a folder whose subfolders are the buckets. Yields the endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def files_of(sample: Path, settings: Settings) -> list[SnapshotFile]:
    """Return the snapshots of a sample, as objects of the file server."""
    found = []
    for number, path in enumerate(sorted(sample.glob("SFTP/*.csv")), start=1):
        day = Day.of_file(number, settings.partition_start_date)
        found.append(SnapshotFile(sample.name, f"SFTP/{path.name}", "", path.stat().st_size, day))
    return found


def measure_once(
    executor: Executor, settings: Settings, files: Sequence[SnapshotFile], latency: float
) -> Sequence[float]:
    """Extract and clean all files. Return the seconds, and the CPU seconds of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    rows = sum(executor.map(partial(extract_and_clean, settings, latency), files))
    assert rows, "nothing was extracted"  # noqa: S101 - a benchmark without rows is invalid
    return time.perf_counter() - began, time.process_time() - cpu


def measure_stage(
    settings: Settings, files: Mapping[str, Sequence[SnapshotFile]], rounds: int
) -> tuple[list[Point], list[Point]]:
    """Return the medians for Dask workers, and those for threads of this process."""
    executors: list[tuple[str, int, Callable[[], Any]]] = [
        *(("dask", count, partial(dask_workers, settings, count)) for count in WORKERS),
        ("threads", 2, partial(ThreadPoolExecutor, 2)),
    ]
    taken: dict[tuple[str, str, int, float], list[Sequence[float]]] = {}
    for _ in range(rounds):  # interleaved, so that changes in the machine's speed affect all alike
        for kind, count, start in executors:
            with start() as started:
                executor = started.get_executor(pure=False) if kind == "dask" else started
                measure_once(executor, settings, files[SCALE][: 2 * count], 0.0)  # warm-up: imports, connections
                for scale, latency in [(scale, latency) for scale, some in LATENCIES.items() for latency in some]:
                    measured = measure_once(executor, settings, files[scale], latency)
                    taken.setdefault((kind, scale, count, latency), []).append(measured)
                    click.echo(f"{kind}, {count} workers, scale {scale}, S3 latency {latency} s: {measured[0]:.2f} s")
    points = {key: Point(*key[1:], *map(median, zip(*measured, strict=True))) for key, measured in taken.items()}
    dask, threads = ([point for key, point in points.items() if key[0] == kind] for kind in ("dask", "threads"))
    return dask, threads


def measure_loads(servers: Servers, settings: Settings, rounds: int) -> tuple[list[tuple[float, float]], Any]:
    """Measure first loads by two threads and by two workers. Return pairs of seconds, and the last load by threads."""
    program = [sys.executable, "main.py", "--log-level", "warning"]
    pairs = []
    with dask_workers(settings, 2) as client:
        address = client.scheduler.address
        for _ in range(rounds):
            seconds = []
            for arguments in (["--workers", "2"], ["--scheduler", address]):
                servers.recreate_database(settings.postgres_db)
                servers.analyze_and_checkpoint("postgres")
                measured = run_measured([*program, *arguments], settings, servers)
                seconds.append(measured.seconds)
                click.echo(f"first load, {arguments[0]}: {measured.seconds:.2f} s")
                if arguments[0] == "--workers":
                    threads = measured
            pairs.append((seconds[0], seconds[1]))
    return pairs, threads


def measure_rows(servers: Servers, settings: Settings) -> dict[str, tuple[int, int]]:
    """Return rows and bytes, with indexes, of each layer; for the whole database, the rows of silver and all bytes."""
    found = {}
    for table in LAYERS:
        rows, size = servers.rows(
            settings.postgres_db,
            f"select (select count(*) from {table}), sum(pg_total_relation_size(relid))::bigint "  # noqa: S608
            f"from pg_partition_tree('{table}')",
        )[0]
        found[table] = (int(rows), int(size))
    whole = servers.value(settings.postgres_db, "select pg_database_size(current_database())")
    return found | {"whole database": (found[LAYERS[1]][0], int(whole))}


# --- report -----------------------------------------------------------------------------------------------------------


def report(results: Mapping[str, Any]) -> str:
    points = [Point(**point) for point in results["dask"]]
    threads = [Point(**point) for point in results["threads"]]
    rows, days, cores = results["rows"], results["days"], results["cores"]
    silver_rows = rows[LAYERS[1]][0]
    loads = median(cluster / alone for alone, cluster in results["loads"])
    two = {scale: point_of(points, scale, 2) for scale in LATENCIES}
    gained = {scale: point_of(points, scale, 1).seconds / two[scale].seconds for scale in LATENCIES}
    lost = {scale: two[scale].seconds / point_of(threads, scale, 2).seconds for scale in LATENCIES}
    per_second = silver_rows / point_of(points, SCALE, 1).seconds
    lines = [
        f"{results['date']}, {cores} cores, Python {results['python']}; {days} days of {silver_rows // days:,} rows "
        f"(scale {SCALE}), and of ten times as many (scale {LARGE_SCALE}); medians of {results['rounds']} rounds.",
        "",
        f"- Extracting and cleaning: **{per_second:,.0f} rows per second** by one worker with one thread.",
        f"- Two workers are {gained[SCALE]:.2f} times as fast as one at scale {SCALE}, "
        f"**{gained[LARGE_SCALE]:.2f} times** at scale {LARGE_SCALE} (target: 1.7). Scheduler and driver take "
        f"{two[SCALE].scheduling / days * 1000:.0f} ms of a core per day, whatever its size.",
        f"- Two workers versus two threads: extracting and cleaning takes {lost[SCALE]:.2f} of the time at scale "
        f"{SCALE} and {lost[LARGE_SCALE]:.2f} at scale {LARGE_SCALE}; **a whole first load at scale {SCALE}, including "
        f"the start, {loads:.2f}** (target: at most 1.15).",
        f"- PostgreSQL: {results['server_cpu_seconds'] / silver_rows * 1e6:.0f} µs of a core per row, from bronze "
        "to gold, including the tables of leads.",
        "",
        "| scale | workers | S3 latency | measured | predicted | difference |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for point in sorted(points, key=lambda point: (float(point.scale), point.latency, point.workers)):
        one = point_of(points, point.scale, 1)
        day = simulation.Day(point.latency, one.seconds / days, scheduling=one.scheduling / days)
        predicted = seconds_for(days, day, Hosts(point.workers, cores))
        off = "input" if point == one else f"{predicted / point.seconds - 1:+.0%}"
        cells = (point.scale, point.workers, f"{point.latency} s", f"{point.seconds:.2f} s", f"{predicted:.2f} s", off)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| table | rows | bytes per row |", "|---|---:|---:|"]
    lines += [f"| {table} | {count:,} | {size / count:,.0f} |" for table, (count, size) in rows.items()]
    return "\n".join([*lines, "", *predicted_table(results, point_of(points, SCALE, 1).seconds / days)])


def point_of(points: Sequence[Point], scale: str, workers: int) -> Point:
    """Return the measurement of this number of workers without S3 latency."""
    return next(point for point in points if (point.scale, point.workers, point.latency) == (scale, workers, 0.0))


def predicted_table(results: Mapping[str, Any], per_day: float) -> Iterator[str]:
    """Yield the lines of a table: predicted duration of loading many files of the measured size."""
    of_postgres = results["server_cpu_seconds"] / results["days"]
    day = simulation.Day(0.05, per_day, of_postgres)
    yield (
        f"Predicted for files of {results['rows']['silver.stg_csv_snapshots'][0] // results['days']:,} rows and an S3 "
        f"latency of 0.05 s (per file {per_day:.2f} s of a worker's core, {of_postgres:.2f} s of a core of PostgreSQL):"
    )
    yield ""
    cores = (4, 16, 64)
    yield "| files per night | one-core workers | " + " | ".join(f"PostgreSQL with {n} cores" for n in cores) + " |"
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
@click.option("--write", type=click.Path(path_type=Path, exists=True), help="Document to write the results to.")
def main(rounds: int, folder: Path, write: Path | None) -> None:
    """Measure gains and costs of a Dask cluster on this machine, and compare them with a simulation."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    samples = {scale: folder / f"sample-{scale}" for scale in LATENCIES}
    days = {write_sample(sample, scale=float(scale)).days for scale, sample in samples.items()}.pop()
    os.chdir(PROJECT)
    with running_servers(folder / "postgres") as servers:
        settings = servers.settings("bench_cluster", f"cluster-{SCALE}")
        servers.recreate_database(settings.postgres_db)
        upload_folder(s3_client(settings), settings.s3_bucket_name, samples[SCALE])
        with file_server(folder) as endpoint:
            there = settings.model_copy(update={"aws_endpoint_url_s3": endpoint})
            files = {scale: files_of(sample, settings) for scale, sample in samples.items()}
            dask, threads = measure_stage(there, files, rounds)
        loads, load = measure_loads(servers, settings, rounds)
        rows = measure_rows(servers, settings)
    results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
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
        write_between(write, BEGIN, END, text)


if __name__ == "__main__":
    main()
