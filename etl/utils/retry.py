"""Retry after transient errors, such as a lost connection, a restart of PostgreSQL, or a truncated response of S3."""

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


def retry_transient(seconds: float = 60.0) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Return a decorator that retries a function, with backoff, when it raises a transient `PipelineError`.

    Logs a warning before each retry. When the time is over, the last error is raised. Errors that are not transient
    are raised at once. Use it only for functions that leave nothing behind when they fail, because they only read, or
    do their work in one transaction.

    Args:
        seconds: how long to retry after the first failure. The default outlasts a normal restart of PostgreSQL.
    """

    def decorate(work: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(work)
        def retry(*args: P.args, **kwargs: P.kwargs) -> Result:
            from tenacity import Retrying, retry_if_exception, wait_random_exponential

            failures: list[float] = []

            def has_timed_out(attempt: RetryCallState) -> bool:
                # The time counts from the first failure, so that a failure after an hour of work is retried, too.
                failures.append(attempt.outcome_timestamp or 0.0)
                return failures[-1] - failures[0] >= seconds

            return Retrying(
                retry=retry_if_exception(lambda error: isinstance(error, PipelineError) and error.transient),
                wait=wait_random_exponential(multiplier=0.2, max=5.0),
                stop=has_timed_out,
                before_sleep=_log_retry,
                reraise=True,
            )(work, *args, **kwargs)

        return retry

    return decorate


def _log_retry(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    message = error.message if isinstance(error, PipelineError) else error
    log.warning("attempt %d failed, retrying in %.1f s: %s", attempt.attempt_number, attempt.upcoming_sleep, message)
