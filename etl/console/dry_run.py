"""Print the plan of a dry run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from etl.console.output import Line, json_handler, write_lines
from etl.console.summary import metrics_table
from etl.console.text_tables import write_table
from etl.engine.dry_run import Plan, Work, plan_run
from etl.engine.run_report import Step
from etl.utils.day import day_ranges
from etl.utils.utils_connection import Settings


def report_dry_run(settings: Settings, steps: Sequence[Step], **options: bool) -> int:
    """Print what a run of these steps would do, with the options of `plan_run`. Returns `Plan.exit_code`: 0 or 2.

    Raises:
        PipelineError: see `plan_run`.
    """
    started = time.perf_counter()
    plan = plan_run(settings, steps, **options)
    if handler := json_handler():
        seconds = round(time.perf_counter() - started, 3)
        handler.echo("dry run: nothing was written", "dry_run", seconds=seconds, **_as_json(plan))
        return plan.exit_code
    if plan.source.files:
        write_lines([Line(), *metrics_table({"files": plan.file_counts})], sys.stdout)
        pending = [(file.source.key, file.day, file.source.size, file.why) for file in plan.source.files if file.why]
        if pending:
            write_table("files to load", ("key", "day", "bytes", "why"), pending)
    work = [
        (f"{step.number}  {step.title}", days, why) for step in plan.work for why, days in _by_reason(plan.work[step])
    ]
    write_table("days to process", ("step", "days", "why"), work)
    write_lines(_closing_lines(plan, time.perf_counter() - started), sys.stdout)
    return plan.exit_code


def _by_reason(work: Work) -> Iterator[tuple[str, str]]:
    """Yield each reason with what it applies to, as text: days as ranges, and `leads`."""
    for why in dict.fromkeys(work.values()):
        days = sorted(day.date for day, reason in work.items() if day and reason == why)
        leads = ["leads"] if work.get(None) == why else []
        yield why, ", ".join([*([day_ranges(days)] if days else []), *leads])


def _closing_lines(plan: Plan, seconds: float) -> Iterator[Line]:
    refused = {refusal.message for refusal in plan.source.refused}
    labelled = [
        *(("refused: ", "bold red", str(refusal)) for refusal in plan.source.refused),
        *(("warning: ", "bold yellow", finding) for finding in plan.source.incomplete if finding not in refused),
        *(("note: ", "bold", note) for note in plan.notes),
    ]
    for label, style, text in labelled:
        yield Line()
        yield Line(text, label, style)
    yield Line()
    yield Line(
        f" in {seconds:.2f} s: nothing was written", "dry run", "bold green" if not plan.exit_code else "bold red"
    )


def _as_json(plan: Plan) -> dict[str, Any]:
    return {
        "counts": {"files": plan.file_counts},
        "exit_code": plan.exit_code,
        "files": [
            {"key": file.source.key, "day": file.day and file.day.date, "bytes": file.source.size, "why": file.why}
            for file in plan.source.files
        ],
        "refused": [refusal.message for refusal in plan.source.refused],
        "findings": list(plan.source.incomplete),
        "work": [
            {"step": step.number, "title": step.title, "day": day and day.date, "why": why}
            for step, work in plan.work.items()
            for day, why in work.items()
        ],
        "notes": list(plan.notes),
    }
