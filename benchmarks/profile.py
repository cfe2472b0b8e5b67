"""Profile of a full refresh: CPU usage by step, and time by statement.

    python -m benchmarks.profile [--scale 10] [--server both] [--write docs/performance.md]

The CPU time of the pipeline, of PostgreSQL and of the whole machine is sampled four times a second, and averaged over
each step. A second full refresh logs the duration of every statement; statements that differ only in the day are added
up. Sampling and logging slow both runs down, so their total times are not those of `make bench`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
import psutil

from benchmarks.bench import chosen_servers, make_dataset
from benchmarks.cases import FULL_REFRESH, LOADED, Bucket
from benchmarks.documents import write_between
from benchmarks.measure import environment_of
from benchmarks.real_shape import REAL_FILES
from benchmarks.report import markdown_table
from benchmarks.rounds import WAREHOUSE, Bench, load_warehouse, pipeline_program, template_name
from benchmarks.servers import KINDS, running_servers
from etl.utils.utils_connection import PROJECT, Settings

BEGIN, END = "<!-- benchmarks.profile -->", "<!-- end of benchmarks.profile -->"
SECONDS_BETWEEN_LOOKS = 0.25
START = "start of Python"
SMALLEST_SHARE = 0.04
"""Statements with a smaller share of the time of all statements are omitted."""

_ENTRY = re.compile(r"duration: ([\d.]+) ms  (?:statement|execute [^:]*): (.*)", re.DOTALL)


class Look(NamedTuple):
    """Sample: seconds since the start, and CPU seconds until then."""

    at: float
    pipeline: float
    postgres: float
    idle: float
    waiting: float


@dataclass
class Watched:
    """Samples of one run, and the start of each step."""

    looks: list[Look] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=lambda: [(0.0, START)])
    seconds: float = 0.0

    def rows(self) -> list[list[str]]:
        """Return one row per step: seconds, and average shares of the CPU time of the machine."""
        ends = [*(at for at, _ in self.steps[1:]), self.seconds]
        return [
            [title, f"{end - begin:.2f}", *self._shares(begin, end)]
            for (begin, title), end in zip(self.steps, ends, strict=True)
            if end - begin >= SECONDS_BETWEEN_LOOKS
        ]

    def _shares(self, begin: float, end: float) -> list[str]:
        inside = [
            look for look in self.looks if begin - SECONDS_BETWEEN_LOOKS <= look.at <= end + SECONDS_BETWEEN_LOOKS
        ]
        if len(inside) < 2:
            return ["?"] * (len(Look._fields) - 1)
        first, last = inside[0], inside[-1]
        available = (last.at - first.at) * (os.cpu_count() or 1)
        return [f"{100 * (new - old) / available:.0f} %" for old, new in zip(first[1:], last[1:], strict=True)]


def watch(bench: Bench, settings: Settings) -> Watched:
    """Run a full refresh and sample CPU times. Its log contains the start of each step."""
    watched, is_over = Watched(), threading.Event()
    begun = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - no shell, and the command does not come from outside
        [*pipeline_program(*FULL_REFRESH.arguments), "--log-level", "info", "--log-format", "json"],
        cwd=PROJECT,
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    postgres_before, machine_before = bench.servers.cpu_seconds(), psutil.cpu_times()
    pipeline = psutil.Process(process.pid)

    def look() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            try:
                own = sum(pipeline.cpu_times()[:2])
            except psutil.Error:
                return  # the pipeline has exited
            machine = psutil.cpu_times()
            watched.looks.append(
                Look(
                    time.perf_counter() - begun,
                    own,
                    bench.servers.cpu_seconds() - postgres_before,
                    machine.idle - machine_before.idle,
                    machine.iowait - machine_before.iowait,
                )
            )

    watcher = threading.Thread(target=look)
    watcher.start()
    assert process.stdout  # noqa: S101 - it is a pipe
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "step_started":
            watched.steps.append((time.perf_counter() - begun, event["message"].removeprefix("step ")))
    watched.seconds = time.perf_counter() - begun
    is_over.set()
    watcher.join()
    if process.wait():
        raise click.ClickException(f"the full refresh failed with exit status {process.returncode}")
    return watched


def statements(bench: Bench, settings: Settings) -> tuple[float, Counter[str], Counter[str]]:
    """Run a full refresh that logs every statement. Return the total seconds, and seconds and number of each."""
    servers = bench.servers
    log = servers.postgres.data_directory.parent / "postgres.log"
    begin = log.stat().st_size
    for setting, value in (("log_min_duration_statement", "0"), ("log_line_prefix", "'~'")):
        servers.rows("postgres", f"alter system set {setting} = {value}")
    servers.rows("postgres", "select pg_reload_conf()")
    try:
        bench.run(pipeline_program(*FULL_REFRESH.arguments), settings, counted=False)
    finally:
        for setting in ("log_min_duration_statement", "log_line_prefix"):
            servers.rows("postgres", f"alter system reset {setting}")
        servers.rows("postgres", "select pg_reload_conf()")
    seconds: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for entry in log.read_bytes()[begin:].decode(errors="replace").split("\n~"):
        if found := _ENTRY.search(entry):
            name = shortened(found[2])
            seconds[name] += float(found[1]) / 1000  # type: ignore[assignment]
            number[name] += 1
    return sum(seconds.values()), seconds, number


def shortened(statement: str) -> str:
    """Return the beginning of a statement, without the number of the day."""
    plain = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", statement)).replace('"', "").strip()
    plain = re.sub(r"_\d+\b", "_…", re.sub(r"^(drop table if exists [\w.]+; )(?=create table)", "", plain))
    return re.split(r" as (?=with|select)| \((?=\s*\w+,)| where |;", plain)[0][:90].strip()


def profile(bench: Bench, scale: int, source: Path) -> list[str]:
    settings = bench.servers.settings(WAREHOUSE, f"data-{scale}")
    bucket = Bucket(settings, make_dataset(bench.folder, scale, source))
    load_warehouse(bench, settings, bucket, LOADED)
    bench.servers.copy_database(template_name(LOADED), WAREHOUSE)
    bench.servers.analyze_and_checkpoint(WAREHOUSE)
    watched = watch(bench, settings)
    bench.servers.copy_database(template_name(LOADED), WAREHOUSE)
    total, seconds, number = statements(bench, settings)
    for database in (WAREHOUSE, template_name(LOADED)):
        bench.servers.drop_database(database)
    shares = [
        [f"`{name}`", str(number[name]), f"{spent:.2f}", f"{100 * spent / total:.0f} %"]
        for name, spent in seconds.most_common()
        if spent >= SMALLEST_SHARE * total
    ]
    return [
        f"Scale {scale}, {bench.server} server: {watched.seconds:.1f} s.",
        markdown_table(("step", "seconds", "pipeline", "PostgreSQL", "idle", "waiting for disk"), watched.rows()),
        f"All statements: {total:.1f} s.",
        markdown_table(("statement", "number", "seconds", "share"), shares),
    ]


@click.command()
@click.option("--scale", "scales", multiple=True, type=click.IntRange(1), default=(1, 10, 100), show_default=True)
@click.option("--server", type=click.Choice([*KINDS, "both"]), default="both", show_default=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path(".local/bench"))
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), default=REAL_FILES)
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Document to write the results to.")
def main(scales: Sequence[int], server: str, folder: Path, source: Path, write: Path | None) -> None:
    """Measure CPU usage by step and time by statement of a full refresh."""
    folder = folder.resolve()
    parts = []
    for kind in chosen_servers(server):
        with running_servers(folder / "postgres", kind) as servers:
            bench = Bench(folder, kind, servers, (), ())
            for scale in scales:
                parts += profile(bench, scale, source.resolve())
    text = "\n\n".join(parts)
    click.echo(f"\n{text}")
    if write:
        write_between(write, BEGIN, END, text)


if __name__ == "__main__":
    main()
