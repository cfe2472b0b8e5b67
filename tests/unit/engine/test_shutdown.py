"""Signals shut a run down gracefully, even if a library swallows the exception that a signal raises."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import pytest

from etl.engine.shutdown import abortable, raise_if_requested
from etl.utils.errors import AbortedError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_swallowed_signal_is_raised_again(number: signal.Signals) -> None:
    with abortable():
        with contextlib.suppress(Exception):  # as libraries do while they are imported
            os.kill(os.getpid(), number)
        with pytest.raises(AbortedError, match=number.name):
            raise_if_requested()


def test_program_without_signal_is_not_aborted() -> None:
    with abortable():
        raise_if_requested()


def test_signal_in_a_destructor_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            os.getpid()  # the handler runs between two instructions

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(unraisable.exc_type))
    with abortable():
        Killed()
        Broken()
        with pytest.raises(AbortedError, match="SIGTERM"):
            raise_if_requested()
    assert printed == [ValueError]
    assert sys.unraisablehook.__name__ == "<lambda>"
