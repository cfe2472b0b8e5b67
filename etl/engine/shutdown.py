"""Shut down gracefully on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.utils.errors import AbortedError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_requested: list[AbortedError] = []


@contextmanager
def abortable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `AbortedError` while the block runs, so that a run shuts down gracefully.

    A second signal ends the process at once. Works only in the main thread.
    """

    def abort(number: int, _frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_DFL)  # a second signal ends the process at once
        _requested.append(
            AbortedError(f"stopped by {signal.Signals(number).name}", hint="rerun: finished work is kept")
        )
        raise _requested[-1]

    print_traceback = sys.unraisablehook

    def ignore_abort(unraisable: sys.UnraisableHookArgs) -> None:
        # The signal arrived in a destructor or a callback, where Python ignores errors: `raise_if_requested` follows.
        if unraisable.exc_value not in _requested:
            print_traceback(unraisable)

    before = {number: signal.signal(number, abort) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = ignore_abort
    try:
        yield
    finally:
        _requested.clear()
        sys.unraisablehook = print_traceback
        for number, handler in before.items():
            signal.signal(number, handler)


def is_requested() -> bool:
    """Return whether a signal has requested the end of the run."""
    return bool(_requested)


def raise_if_requested() -> None:
    """Raise the `AbortedError` of a signal again, because a library that was interrupted may have suppressed it.

    Raises:
        AbortedError: a signal has requested the end of the run.
    """
    if _requested:
        raise _requested[-1]


def raise_before_requests(client: S3Client) -> S3Client:
    """Let the client call `raise_if_requested` before each attempt of a request, and return the client.

    botocore suppresses the `AbortedError` of a signal that arrives during a request, and tries the request again.
    """
    client.meta.events.register("before-send.s3", lambda **_: raise_if_requested(), unique_id="abort")
    return client
