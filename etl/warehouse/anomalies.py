"""Find anomalies: metrics of a day that deviate from their expected values (specification §7, docs/observability.md).

When step 6 builds a day of gold, it counts the rows that meet the condition of a metric, the NULLs of each column and
the rows of each disposition, and records these counts and those of earlier steps in the load ledger. The view
gold.daily_metrics computes the metrics from them and from tables of gold. When gold is published, `update_anomalies`
compares each metric with its expected value and replaces gold.data_anomalies.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from etl.utils.columns import CLEANED_COLUMNS
from etl.utils.day import day_ranges
from etl.utils.errors import listed
from etl.warehouse.gold_models import METRICS, trimmed
from etl.warehouse.load_ledger import current_loads, record_load
from etl.warehouse.sql_scripts import quote_identifier, read_script, scripts_digest
from etl.warehouse.tables import GOLD_ANOMALIES, GOLD_HISTORY, GOLD_LEADS, GOLD_MATCHING

BASELINE_DAYS = 10
"""Maximum number of days in a baseline: the latest days before the tested one without an anomaly of the metric."""
SHORTEST_BASELINE = 5
"""Minimum number of days in a baseline: with fewer, a metric is not tested, unless its definition has an `expected`
value."""
FEWEST_ROWS = 50
"""Minimum `Metric.row_count`: a metric that is computed from fewer rows is not tested. The metric `rows` is also tested
if at least this many rows are expected."""
DEVIATIONS = 5.0
"""Tolerated deviation, as a number of standard deviations of the baseline, or of the sampling error of a share."""
SMALLEST_TOLERANCE, LARGEST_TOLERANCE = 0.01, 0.05
"""Lower and upper limit of the default tolerance of a share, which is half of its expected value, or half of 1 minus
that value if this is less. A `tolerance` in the definition of a metric replaces the default, but deviations up to the
lower limit are never anomalies."""
SMALLEST_RECORDED_SHARE = 0.002
"""Dispositions with a smaller share of a day's rows are not recorded. Counting them as 0 never causes an anomaly."""
MAD_OF_NORMAL = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""
BEST_SHARE = {"both": max, "none": min}
"""Match scenario → function that returns the best of several shares."""


class Metric(NamedTuple):
    """A row of gold.daily_metrics: the value of one metric on one day."""

    day: date
    name: str
    value: float
    """A share of `row_count`; for the metric `rows`, the number of rows."""
    row_count: int
    best: float | None = None
    """The best value that a build of the day has had (see `best_match_shares`); None for metrics other than matches,
    and if a change has been accepted since."""


class Anomaly(NamedTuple):
    """A row of gold.data_anomalies: a metric whose value on a day is not as expected. For the units see `Metric`."""

    day: date
    metric: str
    observed: float
    expected: float
    severity: str
    message: str


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Return metric → definition from gold/daily_metrics.toml, with optional keys, which the file describes."""
    return tomllib.loads(read_script(METRICS))


LABELS_OF_KINDS = {
    "(.+)_null_share": "rows without {}",
    "(.+)_nulled_share": "values of {} that cleaning made NULL",
    "dispo_share: (.+)": "rows with disposition {}",
    "repeated_lead_number_share": "lead numbers that occur more than once",
}
"""Pattern of a metric's name → its label, into which the groups of the pattern are inserted."""


def label_of(metric: str) -> str:
    """Return the label of a metric in the report and the notebooks, a noun phrase; its name if it has no label."""
    for pattern, label in LABELS_OF_KINDS.items():
        if kind := re.fullmatch(pattern, metric):
            return label.format(*kind.groups())
    return str(definitions().get(metric, {}).get("label", metric))


def count_metrics(db: Cursor, snapshot: sql.Composable) -> dict[str, Any]:
    """Count the rows of a day that meet a metric's condition, are NULL in a column of the CRM, or have a disposition.

    Returns the counts that the load ledger records: `snapshot_rows`, the number of rows, and `metrics`, which maps each
    metric to its number of rows. Dispositions are trimmed, as in gold, and left out below `SMALLEST_RECORDED_SHARE`.

    Args:
        snapshot: the rows of a day of silver (see `row_versions.snapshot_rows`).
    """
    conditions = {name: entry["condition"] for name, entry in definitions().items() if "condition" in entry}
    counts: dict[str, sql.Composable] = {
        f"{name}_null_share": sql.SQL("count(*) - count({})").format(sql.Identifier(name)) for name in CLEANED_COLUMNS
    }
    counts |= {name: sql.SQL(f"count(*) filter (where {condition})") for name, condition in conditions.items()}
    query = sql.SQL("select {}, count(*), {} from {} as snapshot group by 1")
    db.execute(query.format(trimmed("dispo"), sql.SQL(", ").join(counts.values()), snapshot))
    by_dispo = db.fetchall()
    rows = sum(count for _, count, *_ in by_dispo)
    metrics = {name: sum(group[place] for group in by_dispo) for place, name in enumerate(counts, start=2)}
    dispositions = {
        f"dispo_share: {dispo}": count
        for dispo, count, *_ in by_dispo
        if dispo is not None and count >= SMALLEST_RECORDED_SHARE * rows
    }
    return {"snapshot_rows": rows, "metrics": metrics | dispositions}


def best_match_shares(
    day: date, facts: Mapping[str, Any], earlier: Mapping[str, Any], accepted: Mapping[str, Sequence[date]]
) -> dict[str, dict[str, Any]]:
    """Return metric → best share of matches that the file of a day has had: highest `both`, lowest `none`.

    The load ledger records them, so that matches that a build loses are found, and still found after later builds. If
    a change was accepted since the previous build, shares from before the change are ignored: those before the previous
    build; also the share of the previous build, unless that build had lost matches.

    Args:
        facts: the counts of the new build of the day of gold.lead_quality_matching, and the `etag` of its file, which
            loads of earlier versions lack.
        earlier: the same of the build before, as recorded; empty if there is none.
        accepted: see `find_anomalies`.
    """
    if facts.get("etag") is None or facts["etag"] != earlier.get("etag"):
        earlier = {}  # of another file
    builds = [build for build in (facts, earlier) if build.get("snapshot_rows", 0) >= FEWEST_ROWS]
    best = {}
    for scenario, best_of in BEST_SHARE.items():
        metric = f"match_{scenario}_share"
        shares = [build[scenario] / build["snapshot_rows"] for build in builds]
        changes = _accepted_on(day, accepted.get(metric, ()))
        known = earlier.get("best_match_shares", {}).get(metric)
        if known and known["accepted"] == changes:
            shares.append(known["share"])
        elif known and len(shares) > 1 and abs(shares[1] - known["share"]) <= LARGEST_TOLERANCE:
            shares.pop()  # the build before was as expected, so the new change is what was accepted
        if shares:
            best[metric] = {"share": best_of(shares), "accepted": changes}
    return best


def _accepted_on(day: date, changes: Sequence[date]) -> list[str]:
    """Return the accepted changes of a metric that apply to a day, as recorded with its best share."""
    return [str(since) for since in changes if since <= day]


def find_anomalies(metrics: Iterable[Metric], accepted: Mapping[str, Sequence[date]]) -> list[Anomaly]:
    """Compare each metric of each day with its expected value. Returns the anomalies, ordered by day and metric.

    The expected value is the median of the baseline: the latest earlier days, up to `BASELINE_DAYS`, on which the
    metric has no anomaly. So a break is reported on every day until the source is corrected or the change is accepted.

    - If the baseline has fewer than `SHORTEST_BASELINE` days, or the value is computed from fewer than `FEWEST_ROWS`
      rows (for `rows`, see there), the value is not tested.
    - A metric whose definition has an `expected` value is compared with that value, without a baseline, from the first
      day on; after a change of its level was accepted, from the day on which it returns to that value.
    - A day with an anomaly of one of the metrics in `baseline_without` does not enter the baseline, nor a day with the
      value 0 if the definition has `never_zero`.
    - The first day of an anomaly of a metric in `explained_by`, the first day after it, and the first snapshot day of
      an accepted new level of that metric, are neither tested nor part of the baseline.
    - A day without a value for a disposition or a `_nulled_share` counts as 0.
    - A share of matches that differs by more than `LARGEST_TOLERANCE` from the best one of the day is an anomaly, too,
      and the best one enters the baseline: a leads file with other hashes changes all days alike, so a baseline would
      not show it.

    Args:
        metrics: rows of gold.daily_metrics, including the metric `rows` of each day.
        accepted: metric → days from which its new level is accepted as normal: a new baseline starts on each.
    """
    by_name: dict[str, list[Metric]] = defaultdict(list)
    for metric in metrics:
        by_name[metric.name].append(metric)
    rows = {metric.day: metric.row_count for metric in by_name["rows"]}
    found: list[Anomaly] = []
    for name in sorted(by_name, key=_order):
        definition, values = definitions().get(name, {}), by_name[name]
        if name.startswith("dispo_share: ") or name.endswith("_nulled_share"):
            # Not recorded on days on which the share is 0 or too small.
            known = {metric.day: metric for metric in values}
            values = [known.get(day) or Metric(day, name, 0.0, rows[day]) for day in rows]
        explained: set[date] = set()
        patterns = definition.get("explained_by", ())
        for cause in (metric for metric in by_name if any(fnmatchcase(metric, pattern) for pattern in patterns)):
            broken_cause = {anomaly.day for anomaly in found if anomaly.metric == cause}
            since = (next((day for day in sorted(rows) if day >= start), start) for start in accepted.get(cause, ()))
            explained |= _days_of_change(sorted(rows), broken_cause).union(since)
        tested = sorted(metric for metric in values if metric.day not in explained)
        broken = {anomaly.day for anomaly in found if anomaly.metric in definition.get("baseline_without", ())}
        if definition.get("never_zero"):
            broken |= {metric.day for metric in tested if not metric.value}
        found += _anomalies_of(tested, definition.get("expected"), accepted.get(name, ()), broken)
    return sorted(found)


def _order(metric: str) -> tuple[bool, bool]:
    """Return a sort key: metrics whose definition refers to anomalies of other metrics come last."""
    definition = definitions().get(metric, {})
    return "explained_by" in definition, "baseline_without" in definition


def _days_of_change(days: Sequence[date], broken: Set[date]) -> set[date]:
    """Return the first broken day of each series of broken days, and the first day after it."""
    return {day for before, day in pairwise(days) if (before in broken) != (day in broken)}


def _anomalies_of(
    values: Iterable[Metric], fixed: float | None, accepted: Sequence[date], broken: Set[date]
) -> list[Anomaly]:
    sound: deque[float] = deque(maxlen=BASELINE_DAYS)
    found = []
    waiting, normal = sorted(accepted), fixed
    for metric in values:
        while waiting and metric.day >= waiting[0]:
            waiting.pop(0)
            sound.clear()
            fixed = None
        if fixed is None and normal is not None and sound:
            accepted_level = abs(median(sound) - normal)
            is_normal = abs(metric.value - normal) <= min(SMALLEST_TOLERANCE, accepted_level / 4)
            if is_normal and accepted_level > SMALLEST_TOLERANCE and metric.row_count >= FEWEST_ROWS:
                # The source was repaired.
                sound.clear()
                fixed = normal
        best = metric.value if metric.best is None else metric.best
        if metric.row_count >= FEWEST_ROWS and abs(metric.value - best) > LARGEST_TOLERANCE:
            found.append(_anomaly(metric, best))
            sound.append(best)
            continue
        if fixed is not None or len(sound) >= SHORTEST_BASELINE:
            expected = median(sound) if fixed is None else fixed
            deviation = abs(metric.value - expected)
            # for `rows`, having few rows may be the anomaly
            has_enough_rows = max(metric.row_count, expected if metric.name == "rows" else 0) >= FEWEST_ROWS
            # most deviations are below any tolerance, which takes longer to compute
            if has_enough_rows and deviation > SMALLEST_TOLERANCE and deviation > _tolerance(metric, expected, sound):
                found.append(_anomaly(metric, expected))
                continue
        if fixed is None and metric.day not in broken:
            sound.append(metric.value)
    return found


def _tolerance(metric: Metric, expected: float, sound: Sequence[float]) -> float:
    """Return the largest deviation that is not an anomaly, in the unit of `metric.value`."""
    tolerance: float | None = definitions().get(metric.name, {}).get("tolerance")
    spread = DEVIATIONS * MAD_OF_NORMAL * median([abs(value - expected) for value in sound] or [0.0])
    if metric.name == "rows":
        return max((tolerance or 0) * expected, spread)
    rare = min(expected, 1 - expected)
    if tolerance is None:
        tolerance = max(SMALLEST_TOLERANCE, min(LARGEST_TOLERANCE, rare / 2))
    likely = max(rare, 1 / metric.row_count)
    noise = DEVIATIONS * sqrt(likely * (1 - likely) / metric.row_count)
    return max(tolerance, noise, spread)


def _anomaly(metric: Metric, expected: float) -> Anomaly:
    message = f"{listed([metric.name])} is {100 * metric.value:.1f} %, expected {100 * expected:.1f} %"
    if metric.name == "rows":
        message = f"rows: {metric.value:,.0f}, expected {expected:,.0f}"
    return Anomaly(metric.day, metric.name[:100], metric.value, expected, "warn", message[:500])


def accepted_changes(db: Cursor) -> dict[str, list[date]]:
    """Return metric → days from which its new level is accepted as normal, in order."""
    db.execute("select metric, array_agg(since order by since) from meta.accepted_changes group by 1 order by 1")
    return dict(db.fetchall())


def update_anomalies(db: Cursor, run_id: str) -> None:
    """Rebuild gold.data_anomalies if it is outdated, and record the load, in the transaction that publishes gold.

    The table is outdated if gold, the accepted changes or the code have changed since it was built, or if it was
    modified externally.
    """
    inputs = current_loads(db, GOLD_MATCHING, GOLD_LEADS, GOLD_HISTORY, include_modified=True)
    built_from = tuple(sorted(load.load_id for load in inputs.values()))
    accepted = accepted_changes(db)
    code = (METRICS, "gold/create_observability.sql")
    version = scripts_digest(*code, also=(repr(accepted), Path(__file__).read_text(encoding="utf-8")))
    current = current_loads(db, GOLD_ANOMALIES).get(GOLD_ANOMALIES)
    if current and (current.built_from, current.code_version) == (built_from, version):
        return
    db.execute("select _partition_date, metric, value, row_count from gold.daily_metrics where value is not null")
    best = {
        (load.day.date, metric): known["share"]
        for load in inputs.values()
        for metric, known in load.metrics.get("best_match_shares", {}).items()
        if known["accepted"] == _accepted_on(load.day.date, accepted.get(metric, ()))
    }
    metrics = [Metric(day, name, value, rows, best.get((day, name))) for day, name, value, rows in db.fetchall()]
    anomalies = find_anomalies(metrics, accepted)
    db.execute(sql.SQL("delete from {} returning _partition_date, metric").format(quote_identifier(GOLD_ANOMALIES)))
    known = set(db.fetchall())
    execute_values(db, f"insert into {GOLD_ANOMALIES} values %s", anomalies)  # noqa: S608 - a constant
    unknown = sorted(accepted.keys() - {metric.name for metric in metrics})
    facts = {"findings": describe_findings(anomalies, known), "unknown_metrics": unknown}
    record_load(db, run_id, GOLD_ANOMALIES, len(anomalies), built_from=built_from, code_version=version, metrics=facts)


def describe_findings(anomalies: Iterable[Anomaly], known: Set[tuple[date, str]] = frozenset()) -> list[str]:
    """Return one sentence per metric that has anomalies, in the order in which they should be read.

    A sentence has the values of the first day with an anomaly, and all such days. Metrics with anomalies that are not
    known yet come first, and `rows` before others; then the largest relative deviation.

    Args:
        known: day and metric of the anomalies that an earlier run found.
    """
    by_metric: dict[str, list[Anomaly]] = defaultdict(list)
    for anomaly in anomalies:
        by_metric[anomaly.metric].append(anomaly)

    def order(found: Sequence[Anomaly]) -> tuple[bool, bool, float, str]:
        are_known = all((anomaly.day, anomaly.metric) in known for anomaly in found)
        return are_known, found[0].metric != "rows", -max(map(_relative_deviation, found)), found[0].metric

    in_order = sorted(by_metric.values(), key=order)
    return [f"{found[0].message}: {day_ranges([anomaly.day for anomaly in found])}" for found in in_order]


def _relative_deviation(anomaly: Anomaly) -> float:
    return abs(anomaly.observed - anomaly.expected) / max(abs(anomaly.observed), abs(anomaly.expected))
