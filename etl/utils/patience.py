"""Trying again after faults that pass: a lost connection, a restart of PostgreSQL, a body that S3 cut short."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from etl.utils.errors import PipelineError

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")

LONGEST_PAUSE_SECONDS = 5.0


def patient(seconds: float = 60.0) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Make a function try again, after growing pauses, when it raises an error that is `transient`.

    For functions whose work is one transaction: what failed has left nothing behind.

    Args:
        seconds: how long after its first failure. PostgreSQL is back from a restart well before a minute is over.
    """

    def decorate(work: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(work)
        def patiently(*args: P.args, **kwargs: P.kwargs) -> Result:
            from tenacity import Retrying, retry_if_exception, wait_random_exponential

            failures: list[float] = []

            def is_over(attempt: RetryCallState) -> bool:
                # Not since its beginning: what fails after an hour of work has one more try.
                failures.append(attempt.outcome_timestamp or 0.0)
                return failures[-1] - failures[0] >= seconds

            return Retrying(
                retry=retry_if_exception(_will_pass),
                wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_SECONDS),
                stop=is_over,
                before_sleep=_say,
                reraise=True,
            )(work, *args, **kwargs)

        return patiently

    return decorate


def _will_pass(error: BaseException) -> bool:
    return isinstance(error, PipelineError) and error.transient


def _say(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    pause = attempt.next_action.sleep if attempt.next_action else 0
    message = error.message if isinstance(error, PipelineError) else error
    log.warning("try %d failed, next one in %.1f s: %s", attempt.attempt_number, pause, message)
