"""What a person sees of a run: log lines while it works, a summary and a clear error when it ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.utils.errors import PipelineError
from etl.utils.run import RunReport, Step, run_steps
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


def run_and_report(
    settings: Settings, steps: Sequence[Step], *, full_refresh: bool = False, workers: int | None = None
) -> int:
    """Carry out the steps, print the summary, return the exit code."""
    report = run_steps(settings, steps, full_refresh=full_refresh, workers=workers)
    print_summary(report)
    if report.error:
        print_error(report.error)
    return report.exit_code


def run_from_environment(steps: Sequence[Step]) -> int:
    """What `python -m etl.step…` does: these steps alone, with the settings of the environment."""
    configure_logging("info")
    try:
        return run_and_report(load_settings(), steps)
    except PipelineError as error:
        print_error(error)
        return error.exit_code


def print_error(error: PipelineError) -> None:
    """Say what is wrong, where, and what to do next: on standard error, without a traceback."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(str(error), style="default"))
    log.debug("how it came to this:", exc_info=error)


def print_summary(report: RunReport) -> None:
    """Print what each step did, and what stands in the layers now."""
    if not report.steps:
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(_steps_table(report))
    console.print()
    console.print(_layers_table(report))
    console.print()
    outcome = {0: "complete", 2: "data refused"}.get(report.exit_code, "failed")
    console.print(
        Text(f"{outcome} ", style="bold green" if report.exit_code == 0 else "bold red"),
        f"in {report.seconds:.2f} s · run {report.run_id}",
        sep="",
    )


def _steps_table(report: RunReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("step")
    for heading in ("rows in", "rows out", "rejected", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for done in report.steps:
        result = done.result
        moves_rows = done.step.number not in (1, 5)
        table.add_row(
            f"{done.step.number} {done.step.title}",
            *(f"{count:,}" if moves_rows else "" for count in (result.rows_in, result.rows_out, result.rejected)),
            f"{done.seconds:.2f}",
            " · ".join(f"{name} {count:,}" for name, count in result.facts.items()),
        )
    return table


def _layers_table(report: RunReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in report.rows_per_table.items():
        table.add_row(name, f"{rows:,}")
    return table
