"""Shrink a failing history: fewer operations and fewer rows that still fail in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from histories import History, Operation, PutDay, PutLeads, Run
from oracle import Rules
from run_histories import Failure, run_history
from support import Bucket

from etl.utils.utils_connection import Settings


def shrink(
    settings: Settings, bucket: Bucket, failure: Failure, rules: Rules | None = None, *, seconds: float = 120.0
) -> Failure:
    """Remove everything that the failure does not need, until nothing more can be removed or the time is over."""
    deadline = time.monotonic() + seconds

    def failure_of(operations: list[Operation]) -> Failure | None:
        if time.monotonic() > deadline:
            return None
        found = run_history(settings, bucket, History(failure.history.seed, tuple(operations)), rules)
        return found if found and _symptom(found) == _symptom(failure) else None

    while True:
        before = failure
        failure = _without_operations(failure, failure_of)
        failure = _with_simpler_operations(failure, failure_of)
        if failure is before or time.monotonic() > deadline:
            return failure


def _symptom(failure: Failure) -> tuple[str, list[str]]:
    """Return the check, and the first table or error in its details: they stay equal while shrinking."""
    return failure.check, failure.details.splitlines()[:1]


def _without_operations(best: Failure, failure_of: Callable[[list[Operation]], Failure | None]) -> Failure:
    for size in (8, 4, 2, 1):
        first = 0
        while first < len(operations := list(best.history.operations)):
            found = failure_of(operations[:first] + operations[first + size :])
            best = found or best
            first += 0 if found else size
    return best


def _with_simpler_operations(best: Failure, failure_of: Callable[[list[Operation]], Failure | None]) -> Failure:
    for index in range(len(best.history.operations)):
        for size in (16, 8, 4, 2, 1):
            skip = 0
            while simpler := next(_simpler(best.history.operations[index], size, skip), None):
                operations = list(best.history.operations)
                found = failure_of([*operations[:index], simpler, *operations[index + 1 :]])
                best = found or best
                skip += 0 if found else 1
    return best


def _simpler(operation: Operation, size: int, skip: int) -> Iterator[Operation]:
    """Yield the operation without some of its rows or options, from chunk `skip` on."""
    match operation:
        case PutDay() | PutLeads():
            for first in range(skip * size, len(operation.rows) - size + 1, size):
                yield replace(operation, rows=operation.rows[:first] + operation.rows[first + size :])
        case Run(full_refresh, kill, days_later):
            plain = Run()
            options = {"full_refresh": full_refresh, "kill": kill, "days_later": days_later}
            for name in [name for name, value in options.items() if value != getattr(plain, name)][skip:]:
                yield replace(operation, **{name: getattr(plain, name)})  # type: ignore[arg-type]
