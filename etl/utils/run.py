"""What a run is: its context, what a step gives back, and how steps are carried out one after the other."""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from etl import __version__
from etl.utils.errors import AbortedError, DataRefusedError, LockHeldError, PipelineError, SettingsError
from etl.utils.patience import patient
from etl.utils.state import begin_run, end_run, rows_per_table
from etl.utils.transactions import cancelled_transactions, transaction
from etl.utils.utils_checks_db import BOOKS, Finding, run_checks
from etl.utils.utils_connection import (
    Settings,
    connect_postgres,
    describe_postgres,
    explained_postgres_errors,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a type, named as one

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

RUN_LOCK = int.from_bytes(b"HOMEBUDY")
"""The advisory lock of a run: one at a time on a database. Postgres gives it back when the process dies."""
SECONDS_TO_WAIT_FOR_THE_LOCK = 0.3
"""Postgres needs a moment to notice that a process was killed."""


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""For so many files or days: a block in which each that is done is told, with its rows."""


@contextmanager
def silently(_total: int) -> Iterator[Callable[[int], None]]:
    """No progress is shown: for tests, and for those who call the steps themselves."""
    yield lambda _rows: None


@dataclass(frozen=True)
class RunContext:
    """What every step is handed."""

    settings: Settings
    executor: Executor
    run_id: str
    extraction_date: date
    full_refresh: bool = False
    progress: Progress = silently
    """Shows how far `for_each` has come."""
    explained_errors: Callable[[], AbstractContextManager[None]] = nullcontext
    """Has faults of the executor itself told as errors of the run."""

    def for_each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        rows: Callable[[Result], int],
        total: int | None = None,
    ) -> list[Result]:
        """Do the work for each day or file, in parallel as far as the executor goes.

        An error cancels what has not begun; what is running ends first, or, when the run is aborted, rolls back. On a
        cluster it rolls back in either case.

        Args:
            items: may be lazy: the work for an item begins while the next one is still being computed.
            rows: how many rows a result stands for.
            total: the number of items, where `items` has no length.
        """
        futures: list[Future[Result]] = []
        if total is None:
            items = list(items)
            total = len(items)
        with self.progress(total) as advance, self.explained_errors():

            def tell(future: Future[Result]) -> None:
                if not future.cancelled() and not future.exception():
                    advance(rows(future.result()))

            try:
                for item in items:
                    futures.append(self.executor.submit(work, item))
                    futures[-1].add_done_callback(tell)
                return [future.result() for future in futures]
            except AbortedError:
                in_hand = [future for future in futures if not future.cancel()]
                with cancelled_transactions():
                    wait(in_hand)
                raise
            finally:
                for future in futures:
                    future.cancel()


@dataclass(frozen=True)
class StepResult:
    """What a step did, in rows."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    facts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What else the summary shall say: `{"files": {"new": 22, "changed": 0}}`."""
    refused: Sequence[DataRefusedError] = ()
    """Source files that were left out, each with its reason."""


@dataclass(frozen=True)
class Step:
    """One of the six: its number, what it does in a few words, and the function that does it."""

    number: int
    title: str
    run: Callable[[RunContext], StepResult]

    def __str__(self) -> str:
        return f"step {self.number}, {self.title}"


@dataclass(frozen=True)
class StepReport:
    """A step that came to its end, and how long it took."""

    step: Step
    result: StepResult
    seconds: float


@dataclass(frozen=True)
class RunReport:
    """How a run ended: what the summary shows and meta.pipeline_runs keeps."""

    run_id: str
    steps: Sequence[StepReport] = ()
    rows_per_table: Mapping[str, int] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    """Promises about the tables that do not hold, and are no fault."""
    seconds: float = 0.0
    error: PipelineError | None = None

    @property
    def exit_code(self) -> int:
        """0 complete · 1 failed · 2 data refused · 3 another run holds the lock (SPEC §7)."""
        return self.error.exit_code if self.error else 0

    @property
    def status(self) -> str:
        if isinstance(self.error, AbortedError):
            return "aborted"
        return {0: "complete", 2: "refused"}.get(self.exit_code, "failed")


def run_steps(
    settings: Settings,
    steps: Sequence[Step],
    *,
    full_refresh: bool = False,
    allow_partial: bool = False,
    workers: int | None = None,
    progress: Progress = silently,
) -> RunReport:
    """Carry out steps in order, as one run: alone on the warehouse, and written down in meta.pipeline_runs.

    The first fault ends the run; the report holds it. Files that are refused end it after their step, unless
    `allow_partial`: then the good days go on, and the run still ends with the refusal.

    Args:
        workers: threads of this machine; of a Dask cluster, all are used.
    """
    started = time.perf_counter()
    report = RunReport(run_id=str(uuid.uuid4()))
    log.info("run %s", report.run_id, extra={"event": "run_started", "run_id": report.run_id, "in_summary": True})
    try:
        with _during("opening the run"), _run_lock(settings):
            arguments = {
                "steps": [step.number for step in steps],
                "full_refresh": full_refresh,
                "allow_partial": allow_partial,
            }
            _begin(settings, report.run_id, arguments)
            try:
                with _workforce(settings, report.run_id, workers) as (executor, explained_errors):
                    today = datetime.now(UTC).date()
                    context = RunContext(
                        settings, executor, report.run_id, today, full_refresh, progress, explained_errors
                    )
                    report = _carry_out(steps, context, report, allow_partial=allow_partial)
            except PipelineError as error:
                report = _closed(settings, replace(report, error=report.error or error), started)
                raise
            except Exception as error:
                fault = PipelineError(f"unexpected {type(error).__name__}")
                _closed(settings, replace(report, error=fault), started)
                raise
            with _during("closing the run"):
                report = _closed(settings, report, started)
    except PipelineError as error:
        report = replace(report, error=report.error or error)
    return replace(report, seconds=time.perf_counter() - started)


@contextmanager
def _workforce(
    settings: Settings, run_id: str, workers: int | None
) -> Iterator[tuple[Executor, Callable[[], AbstractContextManager[None]]]]:
    """Who carries out the work of the steps, and how his own faults are told.

    Raises:
        SettingsError: DASK_SCHEDULER_ADDRESS is set, and Dask cannot be imported.
        PipelineError: see `cluster.dask_cluster`.
    """
    if not settings.dask_scheduler_address:
        with ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="day") as executor:
            yield executor, nullcontext
        return
    try:
        from etl.utils.cluster import dask_cluster
    except ImportError as error:
        raise SettingsError(
            f"the scheduler {settings.dask_scheduler_address} needs Dask, which cannot be imported: {error}",
            hint="pip install -r requirements-dask.txt; without a scheduler's address the days run on this machine",
        ) from None
    with dask_cluster(settings, run_id) as cluster:
        yield cluster.executor, cluster.explained_errors


@contextmanager
def abortable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `AbortedError`, so that a run ends in order. For the main thread of a program."""

    def abort(number: int, _frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_DFL)  # who asks twice does not want to wait
        raise AbortedError(
            f"stopped by {signal.Signals(number).name}", hint="run again: it goes on with what is not done yet"
        )

    before = {number: signal.signal(number, abort) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _during(part: str) -> Iterator[None]:
    """Have errors say in which part of the run they came up."""
    try:
        yield
    except PipelineError as error:
        error.step = error.step or part
        raise


def default_workers() -> int:
    """Days in hand at once: one for each core, up to eight."""
    return min(os.cpu_count() or 1, 8)


def _carry_out(steps: Iterable[Step], context: RunContext, report: RunReport, *, allow_partial: bool) -> RunReport:
    refused: list[DataRefusedError] = []
    for step in steps:
        started = time.perf_counter()
        log.info("%s", step, extra={"event": "step_started", "step": step.number})
        try:
            with _during(str(step)):
                result = step.run(context)
        except PipelineError as error:
            return replace(report, error=error)
        report = replace(report, steps=[*report.steps, StepReport(step, result, time.perf_counter() - started)])
        _tell_end_of_step(report.steps[-1])
        for refusal in result.refused:
            refusal.step = str(step)
            log.error("refused: %s", refusal.message, extra={"event": "file_refused"})
        refused += result.refused
        if refused:
            report = replace(report, error=_refusal(refused))
            if not allow_partial:
                return report
    return _checked(context.settings, report)


def _tell_end_of_step(done: StepReport) -> None:
    """For who reads events: people find it in the summary."""
    fields = _as_json(done)
    counts = {name: value for name, value in fields.items() if name not in ("step", "title", "seconds")}
    log.info(
        "%s: %s rows",
        done.step,
        done.result.rows_out,
        extra={"event": "step_ended", "counts": counts, "seconds": fields["seconds"], "in_summary": True},
    )


def _checked(settings: Settings, report: RunReport) -> RunReport:
    """Hold the warehouse to its promises, whatever this run has loaded."""
    try:
        with _during("checks at the end"):
            return replace(report, findings=_check_books(settings))
    except PipelineError as error:
        return replace(report, error=report.error or error)


@patient()
def _check_books(settings: Settings) -> list[Finding]:
    with transaction(settings) as db:
        return run_checks(db, BOOKS)


def _refusal(refused: Sequence[DataRefusedError]) -> DataRefusedError:
    first = refused[0]
    if len(refused) == 1:
        return first
    listed = "".join(f"\n  {number}. {error.message}" for number, error in enumerate(refused, start=1))
    return DataRefusedError(f"{len(refused)} files are refused:{listed}", step=first.step, hint=first.hint)


@patient()
def _begin(settings: Settings, run_id: str, arguments: Mapping[str, Any]) -> None:
    with transaction(settings) as db:
        begin_run(db, run_id, __version__, arguments)


@patient()
def _closed(settings: Settings, report: RunReport, started: float) -> RunReport:
    """Enter the end of the run, and read what stands in the tables now."""
    with transaction(settings) as db:
        report = replace(report, rows_per_table=rows_per_table(db), seconds=time.perf_counter() - started)
        end_run(
            db,
            report.run_id,
            status=report.status,
            exit_code=report.exit_code,
            steps=[_as_json(step) for step in report.steps],
            rows_per_table=report.rows_per_table,
            findings=[str(finding) for finding in report.findings],
            message=str(report.error) if report.error else None,
        )
    return report


def _as_json(report: StepReport) -> dict[str, Any]:
    return {
        "step": report.step.number,
        "title": report.step.title,
        "seconds": round(report.seconds, 3),
        "rows_in": report.result.rows_in,
        "rows_out": report.result.rows_out,
        "rejected": report.result.rejected,
        **report.result.facts,
    }


@contextmanager
def _run_lock(settings: Settings) -> Iterator[None]:
    """Hold the lock on a connection of its own.

    When that connection is lost, so is the lock. The run goes on: should another one begin meanwhile, that one strikes
    this one out of the books, and nothing more is written (see `state.record_load`).
    """
    import psycopg2

    connection = _locked_connection(settings)
    try:
        yield
    finally:
        with suppress(psycopg2.Error):  # a lost connection has given the lock back already
            connection.cursor().execute("select pg_advisory_unlock(%s)", (RUN_LOCK,))
            connection.commit()
        connection.close()


@patient(seconds=10)  # a server that is just starting is waited for; one that is not there is not
def _locked_connection(settings: Settings) -> Connection:
    with explained_postgres_errors(settings):
        connection = connect_postgres(settings)
        db = connection.cursor()
        deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_THE_LOCK
        while True:
            db.execute("select pg_try_advisory_lock(%s)", (RUN_LOCK,))
            (locked,) = db.fetchone() or (False,)
            connection.commit()
            if locked:
                return connection
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    connection.close()
    raise LockHeldError(
        f"another run is at work on {describe_postgres(settings)}",
        hint="wait for it to end, then run again; who it is: select * from meta.pipeline_runs where status = 'running'",
    )
