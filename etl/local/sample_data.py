"""Generate sample data in the shape of the real sources: daily CRM snapshots as CSV, backend leads as parquet.

A population of CRM lead numbers is drawn once: their places, the days on which they appear and disappear, and their
outcomes. File n is what the CRM would export on day n; its export of `Set` breaks on day 16. Two files look as if other
programs had saved them again, with values in other formats. Grain of a CSV file: one row per lead number and, from file
6 on, a separator row; of the parquet: one row per backend lead, and a few rows that cleaning drops (specification §5).
All values are invented.

The parquet is that of the last day or, for shorter samples, of day 22. It has a few leads that only the snapshot of the
next day contains, and some that are in no snapshot. It lacks a few leads of the last snapshot, which the parquet of the
next day has.

Equal parameters (scale, days, seed) give equal CSV files on every machine, and equal rows in the parquet file, whose
metadata has the version of pyarrow. All random numbers are raw output of PCG64, which numpy keeps stable, unlike its
distributions; the arithmetic on them gives the same results everywhere. A longer sample begins with the CSV files of a
shorter one: one more day simulates tomorrow's file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etl.local.sample_files import CSV_FOLDER, PARQUET_FOLDER, write_leads, write_snapshots
from etl.local.sample_population import draw_population
from etl.local.sample_shape import DEFAULT_DAYS
from etl.utils.errors import PipelineError

GENERATOR_VERSION = 2
"""Version of the generator. It must be incremented if equal parameters no longer give equal CSV files and leads."""
DEFAULT_SEED = 20241001
MARKER_NAME = "sample.json"


@dataclass(frozen=True)
class SampleData:
    """A complete sample in `target`.

    `files` is the number of CSV files, `rows` the number of their rows including separators, `lead_numbers` the number
    of distinct lead numbers in the CSV files, and `leads` the number of leads in the parquet after cleaning.
    """

    target: Path
    scale: float
    days: int
    seed: int
    files: int
    rows: int
    lead_numbers: int
    leads: int


def write_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Write a sample to `target`, replacing an existing sample.

    `scale` multiplies leads and rows per day. With a scale of at least 1 and all 22 days, the sample contains every
    irregularity of the specification, §3.
    The parquet of day 22 has 4,364 times `scale` leads after cleaning; that of a later day has more.

    Raises:
        PipelineError: `target` contains files that are not part of a sample.
    """
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
    """Return the sample in `target`. Write it first if it is missing, incomplete, or of other parameters or code.

    Raises:
        PipelineError: `target` contains files that are not part of a sample.
    """
    present = _complete_sample(target.resolve())
    wanted = (float(scale), days, seed)
    if present is not None and (present.scale, present.days, present.seed) == wanted:
        return present
    return write_sample(target, scale=scale, days=days, seed=seed)


def _refuse_foreign_content(target: Path) -> None:
    """Raise if `target` contains files that are not part of a sample: replacing the folder would delete them."""
    own = {MARKER_NAME, *_read_marker(target).get("sizes", {})}
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if foreign := sorted(present - own):
        raise PipelineError(
            f"{target} contains files that are not sample data, such as {foreign[0]}",
            hint="move these files elsewhere, then rerun",
        )


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` at the end of the block. After an error, `target` is unchanged."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.partial-", dir=target.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        fresh.rename(target)


def _write_marker(sample: SampleData, folder: Path) -> None:
    metrics: dict[str, Any] = asdict(sample)
    del metrics["target"]  # the sample may be moved
    paths = sorted([*folder.glob(f"{CSV_FOLDER}/*"), *folder.glob(f"{PARQUET_FOLDER}/*")])
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    marker = {"generator_version": GENERATOR_VERSION, "sample": metrics, "sizes": sizes}
    (folder / MARKER_NAME).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any]:
    """Return the contents of the marker file; empty if it is missing or invalid."""
    with suppress(FileNotFoundError, ValueError):
        marker: dict[str, Any] = json.loads((folder / MARKER_NAME).read_text(encoding="utf-8"))
        return marker
    return {}


def _complete_sample(folder: Path) -> SampleData | None:
    """Return the sample in this folder, or None if it is incomplete or of another generator version."""
    marker = _read_marker(folder)
    if marker.get("generator_version") != GENERATOR_VERSION:
        return None
    files = ((folder / name, size) for name, size in marker["sizes"].items())
    complete = all(file.is_file() and file.stat().st_size == size for file, size in files)
    return SampleData(target=folder, **marker["sample"]) if complete else None
