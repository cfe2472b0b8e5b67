"""The context that each step receives, and the result that it returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from etl.engine.shutdown import raise_if_requested
from etl.utils.errors import AbortedError, DataRefusedError
from etl.utils.utils_connection import Settings
from etl.warehouse.transactions import allow_transactions, end_transactions

SECONDS_TO_END_CALLS = 5.0
"""How long an aborted run waits for its running calls."""
Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""A function of the total number of items. It returns a context manager, which yields a function to call with the row
count of each finished item."""


CURRENT_RUN: dict[str, Any] = {"run_id": None, "step": None}
"""Id of the run that this process executes, and number of its current step: for the JSON log. None until they start."""


@contextmanager
def no_progress(_total: int) -> Iterator[Callable[[int], None]]:
    """Display no progress. Yields a function that ignores the row counts."""
    yield lambda _rows: None


@dataclass(frozen=True)
class RunContext:
    """The context of a run, which each step receives: settings, executor and options."""

    settings: Settings
    executor: Executor
    run_id: str
    extraction_date: date
    """Day (UTC) on which the run started, recorded as `_extraction_date` in bronze."""
    full_refresh: bool = False
    progress: Progress = no_progress
    """Displays the progress of `map`."""

    def map(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        rows: Callable[[Result], int],
        total: int | None = None,
    ) -> list[Result]:
        """Apply a function to each item, such as a day, on the executor. Returns the results in the order of the items.

        If a call fails, its error is raised, and calls that have not started are cancelled. Running calls are completed
        on threads, and rolled back on a cluster when the run ends. If the run is aborted, `AbortedError` is raised, and
        running calls are rolled back on threads, too. Calls that do not end within `SECONDS_TO_END_CALLS`, because S3
        does not answer, are abandoned: they can write nothing once the run has ended (see `fenced_transaction`).

        Args:
            items: the arguments of `work`. With `total`, they may be lazy: work on an item starts while the next item
                is still being computed.
            rows: returns the row count of a result, for the progress display.
            total: number of items. By default, all items are computed first and counted.
        """
        futures: list[Future[Result]] = []
        if total is None:
            items = list(items)
            total = len(items)
        with self.progress(total) as advance:

            def advance_by_rows(future: Future[Result]) -> None:
                if not future.cancelled() and not future.exception():
                    advance(rows(future.result()))

            try:
                for item in items:
                    raise_if_requested()
                    if any(future.done() and future.exception() for future in futures):
                        break
                    futures.append(self.executor.submit(work, item))
                    futures[-1].add_done_callback(advance_by_rows)
                return [future.result() for future in futures]
            except AbortedError:
                running = [future for future in futures if not future.cancel()]
                end_transactions()
                wait(running, SECONDS_TO_END_CALLS)
                allow_transactions()
                raise
            finally:
                for future in futures:
                    future.cancel()


@dataclass(frozen=True)
class StepResult:
    """The result of a step: row counts (none if the step moves no rows), metrics, refusals and warnings."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Number of rejected rows by reason."""
    metrics: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Further counts for the summary, such as `{"files": {"new": 22, "changed": 0}}`."""
    refused: Sequence[DataRefusedError] = ()
    """Refusals of source files and, with MISSING_DAYS=refuse, of missing and late days; each with its reason."""
    warnings: Sequence[str] = ()
    """Findings for the summary and meta.pipeline_runs. They end the run only if they are also in `refused`."""
