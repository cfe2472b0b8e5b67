"""Benchmark data with the shape of the real files: any number of copies, with the days between the known ones.

    python -m benchmarks.real_shape --copies 10 --target .local/bench/data-10

The real files are read from `../shared/real` (`SFTP/data_<n>.csv`, `parquet/leads.parquet`). Some days are missing
there. A day between two known files takes each row from the earlier or from the later one; each lead number switches on
a day of its own, chosen by its hash. Without the real files, the project's own sample replaces them.

A copy after the first has its own hashes, lead UUIDs and lead numbers, so copies never match each other. Everything
is deterministic: the same files and the same number of copies give the same bytes.

Contents of a data set:

    base/            the days and their leads file
    new-day/         the day after: the last file with an average day's new, changed and missing rows
    grown-leads/     the leads file with 1 % more leads: those of the new day's new rows, and some without any row
    corrected-day/   the file of day 11 with an average day's changed and missing rows
    fewer-leads/     the leads file without 1 % of the leads that rows of all days match
    dataset.json     source, number of copies, and the records of each file
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.real_days import (
    HASH,
    KEY_COLUMNS,
    SEPARATOR,
    UUID,
    Snapshot,
    as_uuid,
    new_leads,
    sha1,
    snapshots,
    vary,
    without_late_leads,
)
from etl.local.sample_data import ensure_sample
from etl.utils.errors import PipelineError
from etl.utils.utils_connection import PROJECT

REAL_FILES = PROJECT.parent / "shared" / "real"

GENERATOR_VERSION = 1
"""Increased with every change to the bytes for a given source and number of copies."""

CORRECTED_DAY = 11
BASE, NEW_DAY, GROWN_LEADS, CORRECTED, FEWER_LEADS = PARTS = (
    "base",
    "new-day",
    "grown-leads",
    "corrected-day",
    "fewer-leads",
)
LEADS_KEY = "parquet/leads.parquet"

COPY_OFFSET = 1_000_000
"""Added to the lead numbers once per copy."""
MAX_COPIES = (2**31 - 1) // COPY_OFFSET


@dataclass(frozen=True)
class Dataset:
    """A data set on disk."""

    folder: Path
    source: str
    copies: int
    days: int
    records: Mapping[str, int] = field(default_factory=dict)
    """Records of each file, by part and key: `base/SFTP/data_1.csv`. Separator rows included."""

    def file(self, part: str, key: str) -> Path:
        return self.folder / part / key

    def __str__(self) -> str:
        rows = sum(count for name, count in self.records.items() if name.startswith(f"{BASE}/SFTP/"))
        leads = self.records[f"{BASE}/{LEADS_KEY}"]
        return f"{self.folder}: {self.copies} copies of {self.source}, {self.days} days, {rows:,} rows, {leads:,} leads"


# --- copies -----------------------------------------------------------------------------------------------------------


class CopyIds(dict[str | None, str | None]):
    """Original hash or UUID → that of one copy. Ids of copy 0, and other values, stay unchanged."""

    def __init__(self, copy: int) -> None:
        super().__init__()
        self.copy_number = copy

    def __missing__(self, original: str | None) -> str | None:
        plain = (original or "").strip().lower()
        new = original
        if self.copy_number and HASH.fullmatch(plain):
            new = sha1(f"{self.copy_number}{plain}")
        elif self.copy_number and UUID.fullmatch(plain):
            new = as_uuid(sha1(f"{self.copy_number}{plain}"))
        self[original] = new
        return new


@dataclass(frozen=True)
class _Lines:
    """A snapshot, prepared to be written many times: ids and lead number of each row, and the remaining text."""

    snapshot: Snapshot
    rows: Sequence[tuple[str, int, str, str, str]]

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Lines:
        rest = [column for column in snapshot.header if column not in KEY_COLUMNS]
        rows = [
            (_csv_line([row["ENTRYDATE"]]), int(lead), row["email_hash"], row["phone_hash"], tail)
            for lead, row in snapshot.rows.items()
            for tail in [_csv_line([row[column] for column in rest])]
        ]
        return cls(snapshot, rows)

    def write(self, file: TextIO, copy: int, ids: CopyIds) -> None:
        if not copy:
            file.write(_csv_line(self.snapshot.header) + "\n")
            if self.snapshot.has_separator:
                file.write(_csv_line([SEPARATOR] * len(self.snapshot.header)) + "\n")
        offset = copy * COPY_OFFSET
        lines = [
            f"{entry_date},{lead + offset},{ids[email]},{ids[phone]},{tail}\n"
            for entry_date, lead, email, phone, tail in self.rows
        ]
        file.write("".join(lines))


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


# --- the data set on disk ---------------------------------------------------------------------------------------------


def ensure_dataset(folder: Path, copies: int, source: Path = REAL_FILES) -> Dataset:
    """Return the data set in `folder`; create it unless it is complete and from the same source.

    Raises:
        PipelineError: the source does not have the shape of the real files.
        ValueError: too many or too few copies.
    """
    if not 1 <= copies <= MAX_COPIES:
        raise ValueError(f"copies must be between 1 and {MAX_COPIES}, not {copies}")
    folder = folder.resolve()
    name, source = find_source(source, folder.parent)
    marker = {"generator_version": GENERATOR_VERSION, "source_sizes": _sizes(source), "copies": copies}
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    if {key: found.get(key) for key in marker} == marker:
        return Dataset(folder, **found["dataset"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.unfinished-", dir=folder.parent) as unfinished:
        fresh = Path(unfinished) / "fresh"
        dataset = replace(_write(fresh, source, copies), folder=folder, source=name)
        about = asdict(dataset)
        del about["folder"]  # the data set may be moved
        text = json.dumps(marker | {"dataset": about}, indent=1)
        (fresh / "dataset.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return dataset


def find_source(source: Path, fallback_folder: Path) -> tuple[str, Path]:
    """Return what the data is called, and the folder of the real files, or of the sample in their place."""
    if (source / LEADS_KEY).exists():
        return "the real files", source
    click.echo(f"The real files are not in {source}: the project's own sample takes their place.", err=True)
    sample = fallback_folder / "sample-1"
    ensure_sample(sample)
    return "the sample", sample


def _sizes(source: Path) -> dict[str, int]:
    files = sorted([*source.glob("SFTP/data_*.csv"), source / LEADS_KEY])
    return {file.relative_to(source).as_posix(): file.stat().st_size for file in files}


def _write(folder: Path, source: Path, copies: int) -> Dataset:
    days, change = snapshots(source)
    first_new_lead = 1 + max(int(lead) for day in days for lead in day.rows)
    if first_new_lead + change.new > COPY_OFFSET:
        raise PipelineError(f"lead numbers in {source} reach {COPY_OFFSET:,}", hint="increase COPY_OFFSET")
    new_day = vary(days[-1], change, number=days[-1].number + 1, first_new_lead=first_new_lead)
    corrected = vary(
        days[CORRECTED_DAY - days[0].number],
        replace(change, new=0),
        number=CORRECTED_DAY,
        first_new_lead=first_new_lead,
    )
    leads = pq.read_table(source / LEADS_KEY, columns=["lead_UUID", "phone_hash", "email_hash"])
    leads = leads.replace_schema_metadata()
    new_rows = [row for lead, row in new_day.rows.items() if int(lead) >= first_new_lead]
    leads_files = {
        BASE: leads,
        GROWN_LEADS: pa.concat_tables([leads, new_leads(leads, new_rows)]),
        FEWER_LEADS: without_late_leads(leads),
    }
    files = [(BASE, day) for day in days] + [(NEW_DAY, new_day), (CORRECTED, corrected)]
    write_copies(folder, files, leads_files, copies)
    records = {f"{part}/{day.key}": day.records + (copies - 1) * len(day.rows) for part, day in files}
    records |= {f"{part}/{LEADS_KEY}": len(table) * copies for part, table in leads_files.items()}
    return Dataset(folder, "", copies, len(days), records)


def write_copies(
    folder: Path, files: Sequence[tuple[str, Snapshot]], leads_files: Mapping[str, pa.Table], copies: int
) -> None:
    """Write all files in parallel, copy after copy, so that the ids of only one copy are in memory."""
    batches: dict[str, list[pa.RecordBatch]] = {part: [] for part in leads_files}
    with ExitStack() as opened:
        targets = []
        for part, day in files:
            file = opened.enter_context(_parent_made(folder / part / day.key).open("w", encoding="utf-8", newline=""))
            targets.append((_Lines.of(day), file))
        for copy in range(copies):
            ids = CopyIds(copy)
            for lines, file in targets:
                lines.write(file, copy, ids)
            for part, leads in leads_files.items():
                changed = {name: [ids[value] for value in leads[name].to_pylist()] for name in leads.column_names}
                batches[part].append(pa.RecordBatch.from_pydict(changed, schema=leads.schema))
    for part, leads in leads_files.items():
        pq.write_table(pa.Table.from_batches(batches[part], leads.schema), _parent_made(folder / part / LEADS_KEY))


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- the command line -------------------------------------------------------------------------------------------------

_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--copies", type=click.IntRange(1, MAX_COPIES), default=1, show_default=True, help="How often each lead.")
@click.option("--target", type=_folder, required=True, help="Folder of the data set; an older one in it is replaced.")
@click.option("--source", type=_folder, default=REAL_FILES, help="Folder of the real files.  [default: ../shared/real]")
def main(**options: Any) -> None:
    """Create benchmark data with the shape of the real files."""
    try:
        click.echo(ensure_dataset(options["target"], options["copies"], options["source"]))
    except PipelineError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
