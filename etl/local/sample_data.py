"""Sample data in the shape of the real sources: daily CRM snapshots as CSV, the backend's leads as parquet.

A population of CRM lead numbers is drawn once: who they are, when they arrive and leave, and what becomes of them. File
n shows it as the CRM would export it on day n. Grain of a CSV file: one row per lead number; of the parquet: one row
per backend lead, and a few rows that cleaning must repair or drop (specification §5). Every value is invented.

The same (scale, days, seed) give the same bytes everywhere (in the parquet, which names the pyarrow that wrote it, the
same rows): all randomness is PCG64's raw output, whose stream numpy guarantees (that of its distributions it does not),
and the arithmetic on it is exact. A longer sample begins with the files of a shorter one, so "tomorrow's file arrives"
can be played by asking for one day more.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from etl.local.sample_files import CSV_FOLDER, PARQUET_FOLDER, write_leads, write_snapshots
from etl.local.sample_population import draw_population
from etl.local.sample_shape import DEFAULT_DAYS
from etl.utils.errors import PipelineError

GENERATOR_VERSION = 1
"""Counts up with every change to the bytes that a given (scale, days, seed) yield."""
DEFAULT_SEED = 20241001
MARKER_NAME = "sample.json"


@dataclass(frozen=True)
class SampleData:
    """A complete sample in `target`.

    `files` counts the CSV files, `rows` their data rows (separator rows included) and `lead_numbers` the distinct ones
    in them; `leads` the backend leads that remain of the parquet after cleaning.
    """

    target: Path
    scale: float
    days: int
    seed: int
    files: int
    rows: int
    lead_numbers: int
    leads: int

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.files} CSV files with {self.rows:,} rows of {self.lead_numbers:,} lead numbers, "
            f"{self.leads:,} backend leads (scale {self.scale:g}, seed {self.seed})"
        )


def write_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Write a sample into `target`, in place of the sample that is there.

    `scale` multiplies leads and rows per day; from 1 on, the sample has every oddity of the specification, §3. Up to
    day 22 the backend has 4,364 times `scale` leads; every day after adds its arrivals.

    Raises:
        ValueError: a parameter is out of range.
        PipelineError: `target` holds something that is not a sample.
    """
    _check_parameters(scale, days, seed)
    target = target.resolve()
    _refuse_foreign_content(target)
    with _replacing(target) as fresh:
        population = draw_population(scale, max(days, DEFAULT_DAYS), seed)
        rows = write_snapshots(population, days, fresh / CSV_FOLDER)
        leads = write_leads(population.leads, fresh / PARQUET_FOLDER)
        sample = SampleData(
            target=target,
            scale=float(scale),
            days=days,
            seed=seed,
            files=days,
            rows=rows,
            lead_numbers=int(np.count_nonzero(population.arrival_day <= days)),
            leads=leads,
        )
        _write_marker(sample, fresh)
    return sample


def ensure_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Return the sample in `target`; write it first unless it is complete and of these parameters and this generator.

    Raises:
        ValueError: a parameter is out of range.
        PipelineError: `target` holds something that is not a sample.
    """
    present = _complete_sample(target.resolve())
    wanted = (float(scale), days, seed)
    if present is not None and (present.scale, present.days, present.seed) == wanted:
        return present
    return write_sample(target, scale=scale, days=days, seed=seed)


def _check_parameters(scale: float, days: int, seed: int) -> None:
    for name, value, least in (("scale", scale, 0.01), ("days", days, 1), ("seed", seed, 0)):
        if not value >= least:
            raise ValueError(f"{name} is {value}, must be at least {least}")


def _refuse_foreign_content(target: Path) -> None:
    """Replacing a folder deletes what is in it, which must never be somebody's own data."""
    own = {MARKER_NAME, *_read_marker(target).get("sizes", {})}
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if foreign := sorted(present - own):
        raise PipelineError(
            f"{target} holds something else than sample data: {', '.join(foreign[:5])}",
            hint="name another folder for the sample, or empty this one",
        )


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` at the end, or vanishes when the block fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    remove_leftovers(target.parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        fresh.rename(target)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove what killed runs left. A day is old enough: a run that is still at work started minutes ago."""
    yesterday = time.time() - 86_400
    for leftover in parent.iterdir():
        with suppress(FileNotFoundError):  # another run may have finished in between
            if leftover.name.startswith(prefix) and leftover.stat().st_mtime < yesterday:
                shutil.rmtree(leftover, ignore_errors=True)


def _write_marker(sample: SampleData, folder: Path) -> None:
    metrics: dict[str, Any] = asdict(sample)
    del metrics["target"]  # the sample may be moved
    paths = sorted([*folder.glob(f"{CSV_FOLDER}/*"), *folder.glob(f"{PARQUET_FOLDER}/*")])
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    marker = {"generator_version": GENERATOR_VERSION, "sample": metrics, "sizes": sizes}
    (folder / MARKER_NAME).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any]:
    """Return what the marker says: nothing when there is none, or none that can be read."""
    with suppress(FileNotFoundError, ValueError):
        marker: dict[str, Any] = json.loads((folder / MARKER_NAME).read_text(encoding="utf-8"))
        return marker
    return {}


def _complete_sample(folder: Path) -> SampleData | None:
    """Return the sample in this folder if it is this generator's and all of its files are there in full, else None."""
    marker = _read_marker(folder)
    if marker.get("generator_version") != GENERATOR_VERSION:
        return None
    files = ((folder / name, size) for name, size in marker["sizes"].items())
    complete = all(file.is_file() and file.stat().st_size == size for file, size in files)
    return SampleData(target=folder, **marker["sample"]) if complete else None


@click.command()
@click.option(
    "--target", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the sample."
)
@click.option("--scale", default=1.0, show_default=True, help="Multiplies leads and rows per day.")
@click.option("--days", default=DEFAULT_DAYS, show_default=True, help="Number of daily CSV files.")
@click.option("--seed", default=DEFAULT_SEED, show_default=True, help="Other seeds make other samples.")
def main(target: Path, scale: float, days: int, seed: int) -> None:
    """Write sample data: daily CRM snapshots as CSV, and the backend's leads as parquet."""
    try:
        sample = ensure_sample(target, scale=scale, days=days, seed=seed)
    except (PipelineError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(sample)


if __name__ == "__main__":
    main()
