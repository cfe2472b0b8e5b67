"""What a person sees of a run: log lines while it works, a summary and a clear error when it ends."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.utils.errors import PipelineError, shorten
from etl.utils.run import RunReport, Step, abortable, run_steps
from etl.utils.utils_connection import Settings, load_settings

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

log = logging.getLogger(__name__)


def configure_logging(level: str) -> None:
    """Log lines go to standard error, the summary to standard output."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S", handlers=[_Lines()]
    )
    for chatty in ("boto3", "botocore", "urllib3", "s3transfer", "sqlalchemy"):
        # Their debug lines hold request signatures and connection arguments.
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


class _Lines(logging.Handler):
    """Writes log lines to standard error, above the progress bar where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: ProgressBar | None = None

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")


SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """How far long work has come: a bar on a terminal, a line every few seconds in a log."""
    with _bar(total) if _console().is_terminal and total > 1 else _lines(total) as advance:
        yield advance


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    began = time.monotonic()
    rows_done = 0
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, _Lines)]
    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=_console(), transient=True) as bar:
        task = bar.add_task("", total=total)

        def advance(rows: int) -> None:
            nonlocal rows_done
            rows_done += rows
            bar.update(task, advance=1, description=_rows_and_rate(rows_done, began))

        for handler in handlers:
            handler.bar = bar
        try:
            yield advance
        finally:
            for handler in handlers:
                handler.bar = None


@contextmanager
def _lines(total: int) -> Iterator[Callable[[int], None]]:
    began = last = time.monotonic()
    done = rows_done = 0
    one_at_a_time = threading.Lock()

    def advance(rows: int) -> None:
        nonlocal done, rows_done, last
        with one_at_a_time:
            done, rows_done, now = done + 1, rows_done + rows, time.monotonic()
            if now - last < SECONDS_BETWEEN_LINES or done == total:
                return
            last = now
            left = (now - began) / done * (total - done)
            log.info("%d of %d done, %s, about %.0f s left", done, total, _rows_and_rate(rows_done, began), left)

    yield advance


def _rows_and_rate(rows: int, began: float) -> str:
    return f"{rows:,} rows, {rows / max(time.monotonic() - began, 0.001):,.0f} a second"


def run_and_report(settings: Settings, steps: Sequence[Step], **options: Any) -> int:
    """Carry out the steps with the options of `run_steps`, print the summary, return the exit code."""
    report = run_steps(settings, steps, progress=progress, **options)
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
    console = _console()
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
