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

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from etl.local.sample_files import CSV_FOLDER, PARQUET_FOLDER, write_leads, write_snapshots
from etl.local.sample_population import draw_population
from etl.local.sample_shape import DEFAULT_DAYS

DEFAULT_SEED = 20241001


@dataclass(frozen=True)
class SampleData:
    """A sample in `target`.

    `days` is the number of CSV files, `rows` the number of their rows including separators, `lead_numbers` the number
    of distinct lead numbers in the CSV files, and `leads` the number of leads in the parquet after cleaning.
    """

    target: Path
    days: int
    rows: int
    lead_numbers: int
    leads: int


def write_sample(target: Path, *, scale: float = 1, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED) -> SampleData:
    """Write a sample to `target`. Replaces files of the same names; keeps others, such as later days.

    `scale` multiplies leads and rows per day. With a scale of at least 1 and all 22 days, the sample contains every
    irregularity of the specification, §3. The parquet of day 22 has 4,364 times `scale` leads after cleaning; that of a
    later day has more.
    """
    population = draw_population(scale, max(days, DEFAULT_DAYS), seed)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as draft:
        rows = write_snapshots(population, days, Path(draft, CSV_FOLDER))
        leads = write_leads(population.leads, Path(draft, PARQUET_FOLDER))
        for folder in (CSV_FOLDER, PARQUET_FOLDER):
            (target / folder).mkdir(exist_ok=True)
            for file in Path(draft, folder).iterdir():
                file.replace(target / folder / file.name)  # atomic: another demo may be reading the sample
    return SampleData(target.resolve(), days, rows, int(np.count_nonzero(population.arrival_day <= days)), leads)


@click.command(context_settings={"show_default": True})
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.option("--scale", type=click.FloatRange(min=0.01), default=1, help="Factor for leads and rows per day.")
@click.option("--days", type=click.IntRange(min=1), default=DEFAULT_DAYS, help="Number of CSV files.")
@click.option("--seed", default=DEFAULT_SEED, help="Another seed gives other values.")
def main(target: Path, scale: float, days: int, seed: int) -> None:
    """Write sample data to TARGET: TARGET/SFTP and TARGET/parquet. Files of other names in it are kept."""
    sample = write_sample(target, scale=scale, days=days, seed=seed)
    click.echo(f"{sample.rows:,} rows of snapshots and {sample.leads:,} leads written to {sample.target}")


if __name__ == "__main__":
    main()
