"""Measurements → figures against their targets, and tables in Markdown. Pure: nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

BEGIN, END = "<!-- make bench -->", "<!-- end of make bench -->"
"""What stands between these two in docs/performance.md is written by `make bench`."""

Round = Mapping[str, Mapping[str, Any]]
"""Name of a run → its measurement, of one round."""


class Figure(NamedTuple):
    """A figure, and what it shall be at most; None where nothing is asked of it."""

    name: str
    value: float
    target: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        return "" if self.target is None else "met" if self.value <= self.target else "missed"


def seconds(rounds: Sequence[Round], run: str) -> float | None:
    """The median time of a run; None when it was not measured."""
    return middle(rounds, run, "seconds")


def middle(rounds: Sequence[Round], run: str, what: str) -> float | None:
    values = [found[run][what] for found in rounds if run in found]
    return median(values) if values else None


def ratio(rounds: Sequence[Round], run: str, other: str) -> float | None:
    """The median of the ratios of two runs, each taken within a round: what slows a whole round down cancels out."""
    pairs = [found[run]["seconds"] / found[other]["seconds"] for found in rounds if run in found and other in found]
    return median(pairs) if pairs else None


def figures(results: Mapping[str, Any]) -> list[Figure]:
    """What issue and specification ask for, as far as it was measured: ratios first."""
    scales: Mapping[str, Any] = results["scales"]
    rounds = {scale: found["rounds"] for scale, found in scales.items()}
    found: list[Figure] = []

    def add(name: str, value: float | None, target: float | None = None, unit: str = "") -> None:
        if value is not None:
            found.append(Figure(name, value, target, unit))

    targets_of_peer = {"1": 1.0, "10": 0.8, "100": 0.4}
    for peer, title in (("duckdb", "DuckDB"), ("duckdb-sql", "DuckDB, SQL")):
        for scale in scales:
            name = f"scale {scale}: full refresh ÷ {title}"
            add(name, ratio(rounds[scale], "full refresh", peer), targets_of_peer.get(scale))
    for scale in scales:
        target = 2.0 if scale == "100" else None
        add(f"scale {scale}: full refresh ÷ COPY floor", ratio(rounds[scale], "full refresh", "floor"), target)
    for scale in scales:
        target = 2.5 if scale == "100" else None
        add(f"scale {scale}: unchanged rerun ÷ bare imports", ratio(rounds[scale], "unchanged", "imports"), target)
    for scale in scales:
        target = 1 / 15 if scale == "100" else None
        add(f"scale {scale}: one new day ÷ full load", ratio(rounds[scale], "new day", "first load"), target)
    if {"10", "100"} <= scales.keys():
        add("time per row, scale 100 ÷ scale 10", _quotient(_per_row(scales["100"]), _per_row(scales["10"])), 1.15)
    if {"1", "100"} <= scales.keys():
        reruns = (seconds(rounds[scale], "unchanged") for scale in ("100", "1"))
        add("unchanged rerun, scale 100 ÷ scale 1", _quotient(*reruns), 1.2)
    one_file = results.get("one file")
    if one_file and "100" in scales:
        per_row = (_per_row(one_file, "first load"), _per_row(scales["100"], "first load"))
        add("time per row, one file of 5 million rows ÷ scale 100", _quotient(*per_row), 1.3)
    for scale in scales:
        target = 600.0 if scale == "100" else None
        add(f"scale {scale}: peak memory", _megabytes(rounds[scale], "full refresh"), target, "MB")
    if one_file:
        add("one file of 5 million rows: peak memory", _megabytes(one_file["rounds"], "first load"), 2000.0, "MB")
    return found


def _per_row(measured: Mapping[str, Any], run: str = "full refresh") -> float | None:
    return _quotient(seconds(measured["rounds"], run), measured["rows"]["bronze.csv_snapshots"])


def _quotient(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _megabytes(rounds: Sequence[Round], run: str) -> float | None:
    return _quotient(middle(rounds, run, "peak_memory_bytes"), 1e6)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def render(results: Mapping[str, Any]) -> str:
    """All tables: figures against targets, times, steps, counts."""
    measured = {f"scale {scale}": found for scale, found in results["scales"].items()}
    if results.get("one file"):
        measured["one file"] = results["one file"]
    parts = [
        _described(results["machine"]),
        markdown_table(
            ("figure", "measured", "target", ""),
            [
                (figure.name, _value(figure.value, figure.unit), _target(figure), figure.verdict)
                for figure in figures(results)
            ],
        ),
        markdown_table(
            ("", "run", "seconds", "from … to", "CPU s, process", "CPU s, PostgreSQL", "peak memory"),
            _per_run(measured, _time_cells),
        ),
        "Seconds per step of the full refresh:",
        _steps_table(measured),
    ]
    if counts := _per_run(measured, _count_cells):
        header = ("", "run", "statements", "commits", "sent MB", "of it COPY", "received MB", "of it COPY", "WAL MB")
        parts += ["Counts, which hardly depend on the machine:", markdown_table(header, counts)]
    return "\n\n".join(parts)


def replace_between_markers(document: str, text: str) -> str:
    """Put `text` between the markers of a document.

    Raises:
        ValueError: the document has not both markers, in order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} must both stand in the document, in this order")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are numbers, but for those at the left that have a name in words."""
    words = [name in ("", "figure", "run", "step") for name in header]
    lines = [header, ["---" if is_word else "---:" for is_word in words], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _described(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['date']} · {machine['cores']} cores, {machine['memory_gb']} GB · Python {machine['python']}, "
        f"PostgreSQL {machine['postgres']}, DuckDB {machine['duckdb']} · {machine['rounds']} rounds, medians"
    )


def _per_run(
    measured: Mapping[str, Any], cells: Callable[[Mapping[str, Any], str], list[str] | None]
) -> list[list[str]]:
    return [
        [what, run, *line]
        for what, found in measured.items()
        for run in dict.fromkeys(run for done in (*found["rounds"], found.get("counts", {})) for run in done)
        if (line := cells(found, run))
    ]


def _time_cells(found: Mapping[str, Any], run: str) -> list[str] | None:
    rounds = found["rounds"]
    every = [done[run]["seconds"] for done in rounds if run in done]
    if not every:
        return None
    cpu, server_cpu, memory = (
        median(done[run][what] for done in rounds if run in done)
        for what in ("cpu_seconds", "server_cpu_seconds", "peak_memory_bytes")
    )
    return [
        f"{median(every):.2f}",
        f"{min(every):.2f} … {max(every):.2f}",
        f"{cpu:.2f}",
        f"{server_cpu:.2f}",
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


def _steps_table(measured: Mapping[str, Any]) -> str:
    by_step: dict[str, dict[str, float]] = {}
    for what, found in measured.items():
        run = "first load" if what == "one file" else "full refresh"
        every = [done[run]["step_seconds"] for done in found["rounds"] if run in done]
        for step in every[0] if every else ():
            by_step.setdefault(step, {})[what] = median(steps[step] for steps in every)
    rows = [
        [step, *(f"{by_scale[what]:.2f}" if what in by_scale else "" for what in measured)]
        for step, by_scale in by_step.items()
    ]
    return markdown_table(("step", *measured), rows)


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit else f"{value:.2f}"


def _target(figure: Figure) -> str:
    return "" if figure.target is None else f"≤ {_value(figure.target, figure.unit)}"
