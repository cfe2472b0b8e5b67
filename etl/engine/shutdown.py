"""Orderly end of a program on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from etl.utils.errors import AbortedError


@contextmanager
def abortable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `AbortedError`, so that a run ends in order. For the main thread of a program."""

    def abort(number: int, _frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_DFL)  # a second signal ends the process at once
        raise AbortedError(f"stopped by {signal.Signals(number).name}", hint="rerun: finished work is kept")

    before = {number: signal.signal(number, abort) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
