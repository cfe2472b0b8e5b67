"""Run the pipeline from a command line: print summary and error, and return the exit code."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import click

from etl.console.output import Line, configure_logging, is_terminal, json_handler, protect_streams, write_lines
from etl.console.progress import progress
from etl.console.summary import metrics_by_subject, summary_lines
from etl.engine.run_report import Step
from etl.engine.runner import WORKER_THREAD, run_steps
from etl.engine.shutdown import abortable
from etl.utils.errors import PipelineError, shorten
from etl.utils.utils_connection import Settings, load_settings

log = logging.getLogger(__name__)


def run_and_report(settings: Settings, steps: Sequence[Step], **options: Any) -> int:
    """Run steps with the options of `run_steps`, print the summary and the error, if any, and return the exit code.

    If the output is JSON, the event `run_ended` contains both. Errors other than `PipelineError` are raised.
    """
    report = run_steps(settings, steps, progress=progress, **options)
    if handler := json_handler():
        handler.echo(
            f"run ended with status {report.status}",
            "run_ended",
            logging.ERROR if report.error else logging.INFO,
            run_id=report.run_id,
            step=None,
            status=report.status,
            exit_code=report.exit_code,
            seconds=round(report.seconds, 3),
            counts={**metrics_by_subject(report), "rows_per_table": dict(report.rows_per_table)},
            findings=list(report.warnings),
            error=_error_fields(report.error) if report.error else None,
        )
        return report.exit_code
    if report.steps:
        write_lines(summary_lines(report), sys.stdout)
    if report.error:
        if report.steps and is_terminal(sys.stderr):
            sys.stderr.write("\n")  # apart from the summary
        print_error(report.error)
    return report.exit_code


def run_step_from_environment(step: Step) -> int:
    """Run one step with the settings of the environment or `.env`, and log as text. Returns the exit code.

    The command line must have no arguments: otherwise an error is printed, and nothing is run.
    """

    def run() -> int:
        if unexpected := sys.argv[1:]:
            raise PipelineError(
                f"{step} was not run: unexpected argument {unexpected[0]}",
                hint=f"for options, use python main.py --only-step {step.number}",
            )
        return run_and_report(load_settings(), [step])

    configure_logging("info")
    return run_cli(run)


def run_cli(work: Callable[[], int]) -> int:
    """Call the function of a command line, and return its exit code.

    Any error is printed as one message. The exit code is then that of the `PipelineError`, or 1 for any other error. If
    an aborted run has left a call that hangs, the process ends at once: Python would wait for its thread.
    """
    exit_code = _exit_code_of(work)
    if any(thread.name.startswith(WORKER_THREAD) for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(exit_code)
    return exit_code


def _exit_code_of(work: Callable[[], int]) -> int:
    protect_streams()
    try:
        with abortable():
            return work()
    except click.ClickException as error:
        error.show()
        return 1  # click's own 2 would mean that data was refused
    except Exception as error:  # noqa: BLE001 - the outermost handler
        fault = _pipeline_error(error)
        if fault is not error:
            fault.__cause__ = error
            fault.step = next(iter(getattr(error, "__notes__", ())), None)  # from the runner
        print_error(fault)
        return fault.exit_code


def _pipeline_error(error: Exception) -> PipelineError:
    """Translate an error of the machine, such as a file that cannot be read, or of the code, to one with a hint."""
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, MemoryError):
        hint = "free memory on this machine, then rerun. A run on this machine needs the least memory with --workers 1"
        return PipelineError("out of memory", hint=hint)
    if isinstance(error, OSError):
        problem = error.strerror or str(error) or type(error).__name__
        if not error.filename:
            return PipelineError(problem, hint="check the free disk space and the limits of this machine, then rerun")
        return PipelineError(
            f"{problem}: {error.filename}",
            hint="check that the file or folder exists, its permissions, and the free disk space, then rerun",
        )
    return PipelineError(
        f"unexpected {type(error).__name__}: {shorten(error, 200)}",
        hint="this is a bug in the pipeline: rerun with --log-level debug and report the output. "
        "All unfinished changes were rolled back",
    )


def print_error(error: PipelineError) -> None:
    """Print an error with its step and hint: as text to standard error, or as a JSON event to standard output.

    The traceback is logged at level debug only, because it may contain data.
    """
    if handler := json_handler():
        handler.echo(error.message, "error", logging.ERROR, error=_error_fields(error))
    else:
        write_lines([Line(str(error), "error: ", "bold red")], sys.stderr)
    log.debug("traceback:", exc_info=error)


def _error_fields(error: PipelineError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "message": error.message, "where": error.step, "hint": error.hint}
