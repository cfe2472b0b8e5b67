"""Figures with their targets, and Markdown tables, from the measurements of `make bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

BEGIN, END = "<!-- make bench -->", "<!-- end of make bench -->"
"""Markers in docs/performance.md. `make bench` replaces the text between them and the text before them."""

Round = Mapping[str, Mapping[str, Any]]
"""Name of a run → its measurement in one round."""

FULL_REFRESH, FIRST_LOAD = "full refresh", "first load"
SHARE_TARGETS: Mapping[str, Mapping[str, float]] = {
    "unchanged": {"100": 0.01},
    "new day": {"10": 0.10, "100": 0.10},
    "grown leads": {"10": 0.15, "100": 0.15},
    "corrected day": {"10": 0.20, "100": 0.20},
    "late day": {},
    "late leads": {},
}
"""Case → its maximum share of a full refresh, by scale."""
PEER_TITLES = {"duckdb-same-work": "DuckDB, same work", "duckdb": "DuckDB", "duckdb-sql": "DuckDB, SQL"}
PEER_TARGETS: Mapping[str, Mapping[str, float]] = {"duckdb-same-work": {"10": 1.0, "100": 0.8}}
FLOOR_TARGETS = {"100": 2.0}
IMPORTS_TARGETS = {"100": 2.5}
MEMORY_TARGETS = {"100": 600.0}

OF_PIPELINE = (FIRST_LOAD, FULL_REFRESH, *SHARE_TARGETS)
"""Runs of the pipeline, in the order of the tables."""


class Figure(NamedTuple):
    """A figure and its target, an upper limit (None without a target)."""

    name: str
    value: float
    target: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        return "" if self.target is None else "met" if self.value <= self.target else "missed"


def seconds(rounds: Sequence[Round], run: str) -> float | None:
    """Return the median duration of a run; None if it was not measured."""
    return middle(rounds, run, "seconds")


def middle(rounds: Sequence[Round], run: str, what: str) -> float | None:
    values = [found[run][what] for found in rounds if run in found]
    return median(values) if values else None


def _seconds(measured: Mapping[str, Any]) -> float:
    return float(measured["seconds"])


def _all_cpu_seconds(measured: Mapping[str, Any]) -> float:
    """Return the CPU seconds of the process and of PostgreSQL."""
    return float(measured["cpu_seconds"] + measured["server_cpu_seconds"])


def ratio(
    rounds: Sequence[Round], run: str, other: str, cost: Callable[[Mapping[str, Any]], float] = _seconds
) -> float | None:
    """Return the median over rounds of the ratio of two runs, so that slow rounds cancel out."""
    pairs = [cost(found[run]) / cost(found[other]) for found in rounds if run in found and other in found]
    return median(pairs) if pairs else None


def figures(measured: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of one server, as far as they were measured, in the order of the table."""
    scales: Mapping[str, Any] = measured["scales"]
    rounds = {scale: found["rounds"] for scale, found in scales.items()}
    one_file = measured.get("one file")
    found: list[Figure] = []

    def add(name: str, value: float | None, target: float | None = None, unit: str = "") -> None:
        if value is not None:
            found.append(Figure(name, value, target, unit))

    for case, targets in SHARE_TARGETS.items():
        for scale in scales:
            add(f"scale {scale}: {case} ÷ full refresh", ratio(rounds[scale], case, FULL_REFRESH), targets.get(scale))
    for peer, title in PEER_TITLES.items():
        for scale in scales:
            target = PEER_TARGETS.get(peer, {}).get(scale)
            add(f"scale {scale}: full refresh ÷ {title}", ratio(rounds[scale], FULL_REFRESH, peer), target)
    for scale in scales:
        add(f"scale {scale}: peak memory", peak_megabytes(rounds[scale]), MEMORY_TARGETS.get(scale), "MB")
    if one_file:
        add("one file of 5 million rows: peak memory", peak_megabytes(one_file["rounds"]), 2000.0, "MB")
    for scale in scales:
        value = ratio(rounds[scale], FULL_REFRESH, "floor")
        add(f"scale {scale}: full refresh ÷ COPY floor", value, FLOOR_TARGETS.get(scale))
    for scale in scales:
        value = ratio(rounds[scale], "unchanged", "imports")
        add(f"scale {scale}: unchanged ÷ bare imports", value, IMPORTS_TARGETS.get(scale))
    if {"10", "100"} <= scales.keys():
        add("time per row, scale 100 ÷ scale 10", _quotient(_per_row(scales["100"]), _per_row(scales["10"])), 1.15)
    if {"1", "100"} <= scales.keys():
        reruns = (seconds(rounds[scale], "unchanged") for scale in ("100", "1"))
        add("unchanged, scale 100 ÷ scale 1", _quotient(*reruns), 1.2)
    if one_file and "100" in scales:
        per_row = (_per_row(one_file, FIRST_LOAD), _per_row(scales["100"], FIRST_LOAD))
        add("time per row, one file of 5 million rows ÷ scale 100", _quotient(*per_row), 1.3)
    return found


def peak_megabytes(rounds: Sequence[Round]) -> float | None:
    """Return the largest peak memory of the pipeline's runs in MB; that of a run is the median over rounds."""
    peaks = [_quotient(middle(rounds, run, "peak_memory_bytes"), 1e6) for run in OF_PIPELINE]
    return max((peak for peak in peaks if peak is not None), default=None)


def _per_row(measured: Mapping[str, Any], run: str = FULL_REFRESH) -> float | None:
    return _quotient(seconds(measured["rounds"], run), measured["rows"]["bronze.csv_snapshots"])


def _quotient(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


# --- Markdown ---------------------------------------------------------------------------------------------------------


TIME_COLUMNS = (
    "",
    "run",
    "seconds",
    "from … to",
    "share",
    "CPU share",
    "CPU s, process",
    "CPU s, PostgreSQL",
    "CPU s, others",
    "peak memory",
)
SHARES = (
    "Medians. A share is the median of the ratios to the full refresh of the same round, so it can differ from the\n"
    "ratio of two medians. CPU shares depend less on what else runs on the machine. Others: all other processes,\n"
    "including the S3 stand-in."
)
COUNT_COLUMNS = ("", "run", "statements", "commits", "sent MB", "by COPY", "received MB", "by COPY", "WAL MB")


def render(results: Mapping[str, Any]) -> str:
    """Return all tables: figures with targets, then times, steps and counts of each server."""
    parts = [described(results["machine"]), _figures_table(results["servers"])]
    for kind, found in results["servers"].items():
        measured = {f"scale {scale}": at_scale for scale, at_scale in found["scales"].items()}
        if found.get("one file"):
            measured["one file"] = found["one file"]
        parts += [
            f"## {_server_title(kind, found)}",
            SHARES,
            markdown_table(TIME_COLUMNS, _per_run(measured, _time_cells)),
            "Seconds per step:",
            *(_steps_table(what, at_scale["rounds"]) for what, at_scale in measured.items()),
        ]
        if counts := _per_run(measured, _count_cells):
            parts += ["Counts, which hardly depend on the machine:", markdown_table(COUNT_COLUMNS, counts)]
    return "\n\n".join(parts)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. All columns but those with names are right-aligned."""
    words = [name in ("", "figure", "run", "statement") or name.startswith("step") for name in header]
    lines = [header, ["---" if is_word else "---:" for is_word in words], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def described(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['date']} · {machine['cores']} cores, {machine['memory_gb']} GB · Python {machine['python']}, "
        f"DuckDB {machine['duckdb']} · copies of {machine['data']} · rounds: {machine['rounds']}, medians"
    )


def _server_title(kind: str, found: Mapping[str, Any]) -> str:
    return f"{kind.capitalize()} server: PostgreSQL {found['postgres']}"


def _figures_table(servers: Mapping[str, Any]) -> str:
    by_server = {kind: {figure.name: figure for figure in figures(found)} for kind, found in servers.items()}
    rows = []
    for name in dict.fromkeys(name for found in by_server.values() for name in found):
        row = [found.get(name) for found in by_server.values()]
        first = next(figure for figure in row if figure)
        rows.append([name, _target(first), *(_value_and_verdict(figure) for figure in row)])
    header = ("figure", "target", *(f"{kind}, {found['postgres']}" for kind, found in servers.items()))
    return markdown_table(header, rows)


def _per_run(
    measured: Mapping[str, Any], cells: Callable[[Mapping[str, Any], str], list[str] | None]
) -> list[list[str]]:
    return [
        [what, run, *line]
        for what, found in measured.items()
        for run in _runs([*found["rounds"], found.get("counts", {})])
        if (line := cells(found, run))
    ]


def _runs(rounds: Sequence[Round]) -> list[str]:
    """Return the names of all runs, those of the pipeline first."""
    names = dict.fromkeys(run for found in rounds for run in found)
    return [*(run for run in OF_PIPELINE if run in names), *(run for run in names if run not in OF_PIPELINE)]


def _time_cells(found: Mapping[str, Any], run: str) -> list[str] | None:
    rounds = found["rounds"]
    every = [done[run]["seconds"] for done in rounds if run in done]
    if not every:
        return None
    cpu, server_cpu, other_cpu, memory = (
        median(done[run][what] for done in rounds if run in done)
        for what in ("cpu_seconds", "server_cpu_seconds", "other_cpu_seconds", "peak_memory_bytes")
    )
    shares = (ratio(rounds, run, FULL_REFRESH, cost) for cost in (_seconds, _all_cpu_seconds))
    return [
        f"{median(every):.2f}",
        f"{min(every):.2f} … {max(every):.2f}",
        *("" if share is None else f"{share:.3f}" for share in shares),
        f"{cpu:.2f}",
        f"{server_cpu:.2f}",
        f"{other_cpu:.2f}",
        f"{memory / 1e6:,.0f} MB",
    ]


def _count_cells(found: Mapping[str, Any], run: str) -> list[str] | None:
    counted = found.get("counts", {}).get(run)
    if not counted:
        return None
    sizes = ("sent_bytes", "copied_in_bytes", "received_bytes", "copied_out_bytes", "wal_bytes")
    return [
        f"{counted['statements']:,}",
        f"{counted['commits']:,}",
        *(f"{counted[size] / 1e6:,.1f}" for size in sizes),
    ]


def _steps_table(what: str, rounds: Sequence[Round]) -> str:
    """Return a table of one scale: the seconds of each step in each run of the pipeline."""
    runs = [run for run in OF_PIPELINE if any(run in found for found in rounds)]
    by_step: dict[str, dict[str, float]] = {}
    for run in runs:
        every = [found[run]["step_seconds"] for found in rounds if run in found]
        for step in every[0]:
            by_step.setdefault(step, {})[run] = median(steps[step] for steps in every)
    rows = [
        [step, *(f"{by_run[run]:.2f}" if run in by_run else "" for run in runs)] for step, by_run in by_step.items()
    ]
    return markdown_table((f"step, {what}", *runs), rows)


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _value_and_verdict(figure: Figure | None) -> str:
    return "" if figure is None else f"{_value(figure.value, figure.unit)} {figure.verdict}".rstrip()


def _target(figure: Figure) -> str:
    return "" if figure.target is None else f"≤ {_value(figure.target, figure.unit)}"
