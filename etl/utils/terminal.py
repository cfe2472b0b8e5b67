"""What a person sees of a run: log lines while it works, a summary and a clear error when it ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.utils.errors import PipelineError, shorten
from etl.utils.run import RunReport, Step, abortable, run_steps
from etl.utils.utils_connection import Settings, load_settings

log = logging.getLogger(__name__)


def configure_logging(level: str) -> None:
    """Log lines go to standard error, the summary to standard output."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for chatty in ("boto3", "botocore", "urllib3", "s3transfer", "sqlalchemy"):
        # Their debug lines hold request signatures and connection arguments.
        logging.getLogger(chatty).setLevel(logging.WARNING)


def run_and_report(settings: Settings, steps: Sequence[Step], **options: Any) -> int:
    """Carry out the steps with the options of `run_steps`, print the summary, return the exit code."""
    report = run_steps(settings, steps, **options)
    print_summary(report)
    if report.error:
        print_error(report.error)
    return report.exit_code


def run_from_environment(steps: Sequence[Step]) -> int:
    """What `python -m etl.step…` does: these steps alone, with the settings of the environment."""
    configure_logging("info")
    return ended_well(lambda: run_and_report(load_settings(), steps))


def ended_well(work: Callable[[], int]) -> int:
    """Do the work of a program and return its exit code; whatever goes wrong is told in one message."""
    try:
        with abortable():
            return work()
    except PipelineError as error:
        print_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 1  # click's own 2 would say that data was refused
    except Exception as error:  # noqa: BLE001 - the last one to know: it ends the program, and says so
        print_unexpected(error)
        return 1


def print_unexpected(error: Exception) -> None:
    """Say that the pipeline itself is at fault. The traceback is for those who ask: it may show data."""
    fault = PipelineError(
        f"unexpected {type(error).__name__}: {shorten(error, 200)}",
        hint="this is a fault of the pipeline: run again with --log-level debug and report what it prints. "
        "Nothing is half done",
    )
    print_error(fault)
    log.debug("how it came to this:", exc_info=error)


def print_error(error: PipelineError) -> None:
    """Say what is wrong, where, and what to do next: on standard error, without a traceback."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(str(error), style="default"))
    log.debug("how it came to this:", exc_info=error)


def print_summary(report: RunReport) -> None:
    """Print what each step did, and what stands in the tables now. Fits a terminal of 80 columns."""
    if not report.steps:
        return
    console = Console(highlight=False, soft_wrap=True)
    for part in (_steps_table(report), _facts(report), _tables_table(report)):
        console.print()
        console.print(part)
    for finding in report.findings:
        console.print()
        console.print(Text("warning: ", style="bold yellow").append(str(finding), style="default"))
    console.print()
    outcome, style = ("complete", "bold green") if report.exit_code == 0 else (report.status, "bold red")
    console.print(Text(outcome, style=style), f"in {report.seconds:.2f} s, run {report.run_id}")


def _steps_table(report: RunReport) -> Table:
    table = _plain_table("step", "rows in", "rows out", "rejected", "seconds")
    for done in report.steps:
        moves_rows = done.step.number not in (1, 5)
        counts = (done.result.rows_in, done.result.rows_out, done.result.rejected)
        table.add_row(
            f"{done.step.number}  {done.step.title}",
            *(f"{count:,}" if moves_rows else "" for count in counts),
            f"{done.seconds:.2f}",
        )
    return table


def _facts(report: RunReport) -> str:
    facts: dict[str, dict[str, int]] = {}
    for done in report.steps:
        for subject, counts in done.result.facts.items():
            facts.setdefault(subject, {}).update(counts)
    width = max(map(len, facts), default=0)
    return "\n".join(
        f"{subject:<{width}}  " + " · ".join(f"{count:,} {what}" for what, count in counts.items())
        for subject, counts in facts.items()
    )


def _tables_table(report: RunReport) -> Table:
    table = _plain_table("table", "rows now")
    for name, rows in report.rows_per_table.items():
        table.add_row(name, f"{rows:,}")
    return table


def _plain_table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
