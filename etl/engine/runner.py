"""Run steps in order as one run, under the run lock, and record it in meta.pipeline_runs."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from etl import __version__
from etl.engine.context import CURRENT_RUN, Progress, RunContext, no_progress
from etl.engine.run_lock import run_lock
from etl.engine.run_report import RunReport, Step, StepReport
from etl.engine.shutdown import is_requested, raise_if_requested
from etl.utils.errors import DataRefusedError, PipelineError, PostgresError, SettingsError
from etl.utils.retry import retry_transient
from etl.utils.utils_checks_db import END_OF_RUN_CHECKS, run_checks
from etl.utils.utils_connection import Settings
from etl.warehouse.run_history import begin_run, end_run, rows_per_table
from etl.warehouse.transactions import transaction

log = logging.getLogger(__name__)
WORKER_THREAD = "day"
"""Prefix of the names of the threads that process days."""


def run_steps(
    settings: Settings,
    steps: Sequence[Step],
    *,
    full_refresh: bool = False,
    allow_partial: bool = False,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> RunReport:
    """Run steps in order and then data checks, under the run lock, and record the run in meta.pipeline_runs.

    A `PipelineError` ends the run and becomes part of the report. Any other exception of a step is recorded, too, and
    raised. Refused files or days end the run after their step; with `allow_partial`, the next steps process the other
    days. In both cases, the report contains the refusal, unless a later error replaces it. A run that does not get
    the lock is not recorded.

    Args:
        full_refresh: process all files and days, changed or not.
        workers: number of threads on this machine, by default one per core, up to eight. Ignored on a Dask cluster,
            all of whose threads are used.
    """
    report = RunReport(str(uuid.uuid4()))
    CURRENT_RUN.update(run_id=report.run_id, step=None)
    log.info("run %s started", report.run_id, extra={"event": "run_started", "in_summary": True})
    started = time.perf_counter()
    try:
        with _during("opening the run"), run_lock(settings):
            options = {"full_refresh": full_refresh, "allow_partial": allow_partial}
            try:
                with _during("opening the run"):
                    _begin(settings, report.run_id, {"steps": [step.number for step in steps], **options})
                    with _executor(settings, report.run_id, workers) as executor:
                        today = datetime.now(UTC).date()
                        context = RunContext(settings, executor, report.run_id, today, full_refresh, progress)
                        _run_in_order(steps, context, report, allow_partial=allow_partial)
            except PipelineError as error:
                report.error = error
            except Exception as error:
                report.error = PipelineError(f"unexpected {type(error).__name__}", hint="see the output of the run")
                with suppress(PipelineError):
                    _close(settings, report)
                raise
            with _during("closing the run"):
                _close(settings, report)
    except PipelineError as error:
        report.error = report.error or error  # an error of the run is kept if the run cannot be closed, either
    report.seconds = time.perf_counter() - started
    CURRENT_RUN["step"] = None
    return report


@contextmanager
def _executor(settings: Settings, run_id: str, workers: int | None) -> Iterator[Executor]:
    """Yield the executor that the steps use."""
    if not settings.dask_scheduler_address:
        executor = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8), thread_name_prefix=WORKER_THREAD)
        try:
            yield executor
        finally:
            executor.shutdown(wait=not is_requested())  # a call may hang in S3
        return
    try:
        from etl.engine.cluster import dask_cluster
    except ImportError as error:
        raise SettingsError(
            f"the scheduler {settings.dask_scheduler_address} needs Dask, which cannot be imported: {error}",
            hint="pip install -r requirements-dask.txt, or process days on this machine: omit --scheduler and unset "
            "DASK_SCHEDULER_ADDRESS",
        ) from None
    with dask_cluster(settings, run_id) as cluster:
        yield cluster


@contextmanager
def _during(part: str) -> Iterator[None]:
    """Set `step` of pipeline errors that the block raises to this part of the run, unless it is already set.

    Other errors get a note with the part.
    """
    try:
        yield
    except PipelineError as error:
        error.step = error.step or part
        raise
    except Exception as error:
        error.add_note(part)
        raise


def _run_in_order(steps: Sequence[Step], context: RunContext, report: RunReport, *, allow_partial: bool) -> None:
    """Run the steps and then the checks, and add the outcome of each to the report."""
    refused: list[DataRefusedError] = []
    for step in steps:
        started = time.perf_counter()
        CURRENT_RUN["step"] = step.number
        log.info("%s", step, extra={"event": "step_started"})
        with _during(str(step)):
            raise_if_requested()
            result = step.run(context)
            raise_if_requested()
        done = StepReport(step, result, time.perf_counter() - started)
        report.steps.append(done)
        report.warnings += result.warnings
        event = {"event": "step_ended", "counts": _counts(done), "seconds": round(done.seconds, 3), "in_summary": True}
        log.info("%s, has ended", step, extra=event)
        for refusal in result.refused:
            refusal.step = str(step)
            log.error("refused: %s → %s", refusal.message, refusal.hint, extra={"event": "file_refused"})
        refused += result.refused
        if refused:
            report.error = _refusal(refused)
            if not allow_partial:
                if step is not steps[-1]:
                    report.error.hint = f"{report.error.hint}; --allow-partial publishes everything else meanwhile"
                return
    with _during("checks at the end"):
        failures = _run_checks_at_end(context.settings)
    for failure in failures:
        log.warning("%s", failure)
    report.warnings += failures


@retry_transient()
def _run_checks_at_end(settings: Settings) -> list[str]:
    with transaction(settings) as db:
        return run_checks(db, END_OF_RUN_CHECKS)


def _refusal(refused: Sequence[DataRefusedError]) -> DataRefusedError:
    if len(refused) == 1:
        return refused[0]
    listed = "".join(f"\n  {number}. {error.message}" for number, error in enumerate(refused, start=1))
    hints = dict.fromkeys(error.hint for error in refused if error.hint)
    steps = dict.fromkeys(error.step for error in refused if error.step)
    return DataRefusedError(f"{len(refused)} refusals:{listed}", step="; ".join(steps), hint="; ".join(hints))


@retry_transient()
def _begin(settings: Settings, run_id: str, arguments: Mapping[str, Any]) -> None:
    with transaction(settings) as db:
        begin_run(db, run_id, __version__, arguments)


def _close(settings: Settings, report: RunReport) -> None:
    """Add row counts of tables to the report, and record the end of the run in meta.pipeline_runs.

    If the run failed because the server was lost, it is tried once, else with retries.
    """
    was_lost = isinstance(report.error, PostgresError) and report.error.transient
    retry_transient(0 if was_lost else 60)(_record_end)(settings, report)


def _record_end(settings: Settings, report: RunReport) -> None:
    with transaction(settings) as db:
        report.rows_per_table = rows_per_table(db)
        end_run(
            db,
            report.run_id,
            status=report.status,
            exit_code=report.exit_code,
            steps=[
                {"step": done.step.number, "title": done.step.title, "seconds": round(done.seconds, 3)} | _counts(done)
                for done in report.steps
            ],
            rows_per_table=report.rows_per_table,
            checks=report.warnings,
            message=str(report.error) if report.error else None,
        )


def _counts(done: StepReport) -> dict[str, Any]:
    result = done.result
    counts = {"rows_in": result.rows_in, "rows_out": result.rows_out, "rejected": result.rejected.total()}
    return counts | dict(result.metrics)
