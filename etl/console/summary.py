"""Format the summary at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from etl.console.output import Line
from etl.engine.run_report import RunReport


def summary_lines(report: RunReport) -> Iterator[Line]:
    """Yield the lines of a summary: steps with row counts, further counts, tables, warnings and outcome.

    Tables fit a terminal of 80 columns.
    """
    tables = _table(("table", "rows now"), [(name, f"{rows:,}") for name, rows in report.rows_per_table.items()])
    for part in (_steps_table(report), metrics_table(metrics_by_subject(report)), tables):
        yield Line()
        yield from part
    for warning in report.warnings:
        yield Line()
        yield Line(warning, "warning: ", "bold yellow")
    yield Line()
    outcome, style = ("complete", "bold green") if report.exit_code == 0 else (report.status, "bold red")
    yield Line(f" in {report.seconds:.2f} s, run {report.run_id}", outcome, style)


def _steps_table(report: RunReport) -> list[Line]:
    rows = []
    for done in report.steps:
        moves_rows = done.step.number not in (1, 5)
        counts = (done.result.rows_in, done.result.rows_out, done.result.rejected.total())
        cells = (f"{count:,}" if moves_rows else "" for count in counts)
        rows.append((f"{done.step.number}  {done.step.title}", *cells, f"{done.seconds:.2f}"))
    return _table(("step", "rows in", "rows out", "rejected", "seconds"), rows)


def metrics_by_subject(report: RunReport) -> dict[str, dict[str, int]]:
    """Return the sums of the steps' metrics: subject → name → count, as in `{"files": {"new": 22, "changed": 0}}`."""
    metrics: dict[str, dict[str, int]] = {}
    for done in report.steps:
        for subject, counts in done.result.metrics.items():
            metrics.setdefault(subject, Counter()).update(counts)
    rejected = sum((done.result.rejected for done in report.steps), Counter[str]())
    return metrics | ({"rejected_rows": dict(rejected.most_common())} if rejected else {})


def metrics_table(metrics: Mapping[str, Mapping[str, int]]) -> list[Line]:
    """Return one line per subject, such as `files  22 new · 1 changed`."""
    width = max(map(len, metrics), default=0)
    return [
        Line(" · ".join(f"{count:,} {what}" for what, count in counts.items()), f"{subject:<{width}}  ")
        for subject, counts in metrics.items()
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Line]:
    """Return the lines of a table: the first column is aligned left, the others are aligned right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    head, *lines = (
        "  ".join(
            [f"{name:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))]
        )
        for name, *cells in (headings, *rows)
    )
    return [Line(label=head, style="bold"), *map(Line, lines)]
