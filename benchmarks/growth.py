"""Comparison of runs on a warehouse with few days and on one with many days.

    python -m benchmarks.growth [--server both] [--write docs/performance.md]

The first days come from the real files, up to the first change of their format. Each further day is the day before with
an average day's new and changed rows, and as many missing as new rows, so that all files have the same size. The
backend has a lead for each new row. Each warehouse is loaded and fully refreshed once, while the locks that publishing
all days takes are sampled. Then an unchanged run, a new day and a corrected day in the middle are measured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench import chosen_servers
from benchmarks.cases import snapshot_key
from benchmarks.documents import write_between
from benchmarks.real_days import DEMO_AS_WORDS, DailyChange, Snapshot, as_uuid, sha1, snapshots, vary
from benchmarks.real_shape import BASE, CORRECTED, LEADS_KEY, NEW_DAY, REAL_FILES, find_source, write_copies
from benchmarks.report import markdown_table
from benchmarks.rounds import WAREHOUSE, Bench, pipeline_program, template_name
from benchmarks.servers import KINDS, Servers, running_servers
from etl.local.s3_server import upload_folder
from etl.utils.utils_connection import s3_client

BEGIN, END = "<!-- benchmarks.growth -->", "<!-- end of benchmarks.growth -->"
SECONDS_BETWEEN_LOOKS = 0.05
MOST_LOCKS = "select coalesce(max(held), 0) from (select count(*) as held from pg_locks group by pid) as sessions"
UNCHANGED, NEW, CORRECTION = "unchanged", "new day", "corrected day"
LOADS = {"first load": (), "full refresh": ("--full-refresh",)}
"""Runs that publish all days at once → their arguments."""


@dataclass(frozen=True)
class History:
    """Copies of the real files, extended to a number of days."""

    copies: int
    days: int

    @property
    def name(self) -> str:
        return f"growth_{self.copies}_{self.days}"

    def __str__(self) -> str:
        return f"scale {self.copies}, {self.days} days"

    @property
    def corrected_day(self) -> int:
        return self.days // 2

    def files(self, folder: Path, source: Path) -> Path:
        """Return the folder of the files. Create it if it does not exist."""
        target = folder / self.name
        if not target.exists():
            known, change = snapshots(source)
            change = replace(change, gone=change.new)
            sound = [day for day in known if day.number < min(DEMO_AS_WORDS)]
            days = list(_continued(sound, self.days + 1, change))
            before = days[self.corrected_day - 1]
            corrected = vary(before, replace(change, new=0), number=before.number, first_new_lead=0)
            parts = [*((BASE, day) for day in days[:-1]), (NEW_DAY, days[-1]), (CORRECTED, corrected)]
            leads = pq.read_table(source / LEADS_KEY, columns=["lead_UUID", "phone_hash", "email_hash"])
            leads = pa.concat_tables([leads, _leads_of(sound, days, leads.schema)])
            unfinished = target.with_suffix(".unfinished")
            write_copies(unfinished, parts, {BASE: leads.replace_schema_metadata()}, self.copies)
            unfinished.rename(target)
        return target


def _continued(known: Sequence[Snapshot], last: int, change: DailyChange) -> Iterator[Snapshot]:
    yield from known[:last]
    day = known[-1]
    first_new_lead = 1 + max(int(lead) for snapshot in known for lead in snapshot.rows)
    for number in range(day.number + 1, last + 1):
        day = vary(day, change, number=number, first_new_lead=first_new_lead)
        first_new_lead += change.new
        yield day


def _leads_of(known: Sequence[Snapshot], days: Sequence[Snapshot], schema: pa.Schema) -> pa.Table:
    """Return one backend lead per lead number that occurs in `days` but not in `known`."""
    seen = {lead for day in known for lead in day.rows}
    rows = {lead: row for day in days for lead, row in day.rows.items() if lead not in seen}
    columns = {
        "lead_UUID": [as_uuid(sha1(f"lead {lead}")) for lead in rows],
        "phone_hash": [row["phone_hash"] for row in rows.values()],
        "email_hash": [row["email_hash"] for row in rows.values()],
    }
    return pa.table(columns, schema=schema)


@contextmanager
def most_locks(servers: Servers) -> Iterator[list[int]]:
    """Sample the locks that one session holds at a time. The last item of the list is the largest number so far."""
    seen, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            seen.append(max(seen[-1], int(servers.value("postgres", MOST_LOCKS))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


@dataclass(frozen=True)
class Growth:
    """Measurements of one warehouse by run: median seconds, peak memory, and locks of runs that publish all days."""

    seconds: Mapping[str, float]
    megabytes: Mapping[str, float]
    locks: Mapping[str, int]


def measure(bench: Bench, history: History, source: Path, rounds: int) -> Growth:
    servers, folder = bench.servers, history.files(bench.folder, source)
    settings = bench.servers.settings(WAREHOUSE, history.name.replace("_", "-"))
    client, bucket = s3_client(settings), settings.s3_bucket_name
    upload_folder(client, bucket, folder / BASE)
    runs: dict[str, list[Mapping[str, Any]]] = {}
    locks = {}

    def run(name: str, *arguments: str) -> None:
        click.echo(f"{bench.server} server, {history}: {name} … ", nl=False)
        runs.setdefault(name, []).append(bench.run(pipeline_program(*arguments), settings, counted=False))
        click.echo(f"{runs[name][-1]['seconds']:.2f} s")

    def put(part: str, day: int) -> None:
        with (folder / part / snapshot_key(day)).open("rb") as body:
            client.put_object(Bucket=bucket, Key=snapshot_key(day), Body=body)

    servers.recreate_database(WAREHOUSE)
    for name, arguments in LOADS.items():
        with most_locks(servers) as seen:
            run(name, *arguments)
        locks[name] = seen[-1]
    servers.rename_database(WAREHOUSE, template_name(history.name))
    for _ in range(rounds):
        servers.copy_database(template_name(history.name), WAREHOUSE)
        run(UNCHANGED)
        put(NEW_DAY, history.days + 1)
        run(NEW)
        client.delete_object(Bucket=bucket, Key=snapshot_key(history.days + 1))
        servers.copy_database(template_name(history.name), WAREHOUSE)
        put(CORRECTED, history.corrected_day)
        run(CORRECTION)
        put(BASE, history.corrected_day)
    servers.drop_database(WAREHOUSE)
    servers.drop_database(template_name(history.name))
    return Growth(
        seconds={name: median(run["seconds"] for run in every) for name, every in runs.items()},
        megabytes={name: max(run["peak_memory_bytes"] for run in every) / 1e6 for name, every in runs.items()},
        locks=locks,
    )


def table(few: tuple[History, Growth], many: tuple[History, Growth]) -> str:
    """Return a table that compares two warehouses."""
    (before, one), (after, other) = few, many
    rows = [
        [
            name,
            f"{one.seconds[name]:.2f}",
            f"{other.seconds[name]:.2f}",
            f"{other.seconds[name] / one.seconds[name]:.2f}",
            f"{one.megabytes[name]:.0f}",
            f"{other.megabytes[name]:.0f}",
            *(f"{growth.locks[name]:,}" if name in growth.locks else "" for growth in (one, other)),
        ]
        for name in one.seconds
    ]
    days = (str(before.days), str(after.days))
    header = [
        "run",
        *(f"s, {n} days" for n in days),
        "ratio",
        *(f"MB, {n}" for n in days),
        *(f"locks, {n}" for n in days),
    ]
    return markdown_table(header, rows)


@click.command()
@click.option("--copies", default=1, show_default=True, help="Copies of the real files.")
@click.option("--days", nargs=2, type=click.IntRange(2), default=(22, 400), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--server", type=click.Choice([*KINDS, "both"]), default="both", show_default=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path(".local/bench"))
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), default=REAL_FILES)
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Document to write the results to.")
def main(**options: Any) -> None:
    """Compare runs on a warehouse with few days and on one with many days."""
    folder = options["folder"].resolve()
    _, source = find_source(options["source"].resolve(), folder)
    histories = [History(options["copies"], days) for days in options["days"]]
    parts = []
    for kind in chosen_servers(options["server"]):
        with running_servers(folder / "postgres", kind) as servers:
            bench = Bench(folder, kind, servers, (), ())
            few, many = ((history, measure(bench, history, source, options["rounds"])) for history in histories)
            version = str(servers.value("postgres", "show server_version")).split()[0]
            parts += [f"Scale {options['copies']}, {kind} server, PostgreSQL {version}:", table(few, many)]
    text = "\n\n".join(parts)
    click.echo(f"\n{text}")
    if options["write"]:
        write_between(options["write"], BEGIN, END, text)


if __name__ == "__main__":
    main()
