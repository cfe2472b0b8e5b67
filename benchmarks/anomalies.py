"""Reliability of anomaly detection: false alarms in sound histories, and detection of planted breaks.

    python -m benchmarks.anomalies [--write docs/observability.md]

A history is 40 simulated snapshots of a CRM. It starts with 500 to 5,000 leads, which are added, changed and removed at
random, at a lower rate on weekends. Each history has its own shares of values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import click
import numpy as np

from benchmarks.documents import write_between
from etl.warehouse.anomalies import Metric, find_anomalies

BEGIN, END = "<!-- benchmarks.anomalies -->", "<!-- end of benchmarks.anomalies -->"
DAYS = 40
FIRST_DAY = date(2024, 10, 1)
BREAK_LASTS = 7


@dataclass
class Snapshot:
    """Rows of one day: one array per attribute, with one item per row."""

    lead: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)


def sound_history(rng: np.random.Generator) -> list[Snapshot]:
    """Simulate the snapshots of a history without a break."""
    leads = int(rng.integers(500, 5000))
    shares = {
        "set": rng.uniform(0.05, 0.4),
        "demo": rng.uniform(0.03, 0.2),
        "city_null": rng.uniform(0, 0.05),
        "zip_null": rng.uniform(0, 0.02),
        "location_null": rng.choice([0.0, 1.0, 0.1]),
        "sale": rng.uniform(0.015, 0.05),
        "email_only": rng.uniform(0, 0.02),
        "none": rng.uniform(0, 0.05),
    }
    arrivals = rng.uniform(0.002, 0.015)
    changes = rng.uniform(0.001, 0.02)
    lead = np.arange(leads)
    attributes = {name: rng.random(leads) < share for name, share in shares.items()}
    history = []
    for number in range(DAYS):
        pace = 0.3 if (FIRST_DAY + timedelta(number)).weekday() >= 5 else 1.0
        new = int(rng.poisson(arrivals * pace * leads))
        keep = rng.random(len(lead)) >= rng.uniform(0, 2) * arrivals * pace
        lead = np.concatenate([lead[keep], np.arange(leads, leads + new)])
        leads += new
        for name, share in shares.items():
            values = np.concatenate([attributes[name][keep], rng.random(new) < share])
            again = rng.random(len(values)) < changes * pace
            values[again] = rng.random(again.sum()) < share
            attributes[name] = values
        history.append(Snapshot(lead, dict(attributes)))
    return history


def metrics_of(history: list[Snapshot]) -> list[Metric]:
    """Compute those metrics of gold.daily_metrics that the simulation covers."""
    metrics = []
    for number, (before, snapshot) in enumerate(zip([None, *history], history, strict=False)):
        day, rows = FIRST_DAY + timedelta(number), len(snapshot.lead)
        has_date, set_flag = (
            snapshot.attributes.get("appt_date", snapshot.attributes["set"]),
            snapshot.attributes["set"],
        )
        shares = {
            "set_share": set_flag.mean(),
            "demo_share": snapshot.attributes["demo"].mean(),
            "appt_date_null_share": 1 - has_date.mean(),
            "appt_date_without_set_share": (has_date & ~set_flag).mean(),
            "city_null_share": snapshot.attributes["city_null"].mean(),
            "zip_null_share": snapshot.attributes["zip_null"].mean(),
            "location_null_share": snapshot.attributes["location_null"].mean(),
            "dispo_share: Sale": snapshot.attributes["sale"].mean(),
            "match_email_only_share": snapshot.attributes["email_only"].mean(),
            "match_none_share": snapshot.attributes["none"].mean(),
            "repeated_lead_number_share": 1 - len(np.unique(snapshot.lead)) / rows,
        }
        if before is not None:
            shares["new_lead_share"] = (~np.isin(snapshot.lead, before.lead)).mean()
            shares["lost_lead_share"] = (~np.isin(before.lead, snapshot.lead)).sum() / rows
        metrics += [Metric(day, name, float(value), rows) for name, value in shares.items()]
        metrics.append(Metric(day, "rows", float(rows), rows))
    return metrics


def _rows(snapshot: Snapshot, chosen: np.ndarray) -> Snapshot:
    return Snapshot(snapshot.lead[chosen], {name: values[chosen] for name, values in snapshot.attributes.items()})


def _with(snapshot: Snapshot, **values: np.ndarray) -> Snapshot:
    return Snapshot(snapshot.lead, snapshot.attributes | values)


BREAKS: dict[str, tuple[str, Callable[[Snapshot], Snapshot]]] = {
    "20 % of the rows are missing": ("rows", lambda day: _rows(day, np.arange(len(day.lead)) % 5 < 4)),
    "a column becomes NULL": ("city_null_share", lambda day: _with(day, city_null=np.ones(len(day.lead), bool))),
    "a flag is stuck at 0": (
        "set_share",
        lambda day: _with(day, appt_date=day.attributes["set"], set=np.zeros(len(day.lead), bool)),
    ),
    "every row twice": ("repeated_lead_number_share", lambda day: _rows(day, np.arange(len(day.lead)).repeat(2))),
    "the hash of one side changes": ("match_none_share", lambda day: _with(day, none=np.ones(len(day.lead), bool))),
}


def false_alarms(histories: int, seed: int) -> tuple[int, int]:
    """Return the number of anomalies found in sound histories, and the number of values that were tested."""
    rng = np.random.default_rng(seed)
    alarms = tested = 0
    for _ in range(histories):
        metrics = metrics_of(sound_history(rng))
        alarms += len(find_anomalies(metrics, {}))
        tested += len(metrics)
    return alarms, tested


def found_breaks(histories: int, seed: int) -> dict[str, tuple[int, int]]:
    """Return break → number of histories in which it was found on exactly its days, number of histories with it."""
    rng = np.random.default_rng(seed)
    results = dict.fromkeys(BREAKS, (0, 0))
    for number in range(histories):
        name = list(BREAKS)[number % len(BREAKS)]
        metric, damage = BREAKS[name]
        history, first = sound_history(rng), int(rng.integers(8, DAYS - BREAK_LASTS))
        broken = range(first, first + BREAK_LASTS)
        history = [damage(day) if number in broken else day for number, day in enumerate(history)]
        anomalies = [anomaly.day for anomaly in find_anomalies(metrics_of(history), {}) if anomaly.metric == metric]
        found, planted = results[name]
        results[name] = (found + (anomalies == [FIRST_DAY + timedelta(day) for day in broken]), planted + 1)
    return results


@click.command()
@click.option("--write", type=click.Path(path_type=Path), help="Document to write the results to.")
@click.option("--seed", default=1, show_default=True)
def main(write: Path | None, seed: int) -> None:
    """Simulate 200 sound histories and 50 with a break."""
    alarms, tested = false_alarms(200, seed)
    rows = [f"| {name} | {planted} | {found} |" for name, (found, planted) in found_breaks(50, seed).items()]
    table = "\n".join(
        [
            f"False anomalies in 200 simulated histories without a break: {alarms:,} of {tested:,} tested values, "
            f"{1000 * alarms / tested:.2f} of 1,000.",
            "",
            "| simulated break of one week | histories | found on exactly its days |",
            "|---|---:|---:|",
            *rows,
        ]
    )
    click.echo(table)
    if write:
        write_between(write, BEGIN, END, table)


if __name__ == "__main__":
    main()
