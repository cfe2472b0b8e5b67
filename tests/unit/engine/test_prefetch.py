"""Compute the next item in a background thread while the current one is processed; no thread is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from etl.engine.prefetch import prefetch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_items_are_the_same_in_the_same_order() -> None:
    assert list(prefetch(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(prefetch([])) == []
    assert threads() == []


def test_items_may_be_empty_or_none() -> None:
    assert list(prefetch([None, [], 0])) == [None, [], 0]


def test_next_item_is_computed_while_the_current_one_is_used() -> None:
    started = [threading.Event(), threading.Event()]

    def items() -> Iterator[int]:
        for number, event in enumerate(started):
            event.set()
            yield number

    prefetched = prefetch(items())
    assert next(prefetched) == 0
    assert started[1].wait(timeout=5)
    prefetched.close()  # type: ignore[attr-defined]
    assert threads() == []


def test_error_in_computing_an_item_is_raised_at_that_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second one")

    prefetched = prefetch(items())
    assert next(prefetched) == 1
    with pytest.raises(ValueError, match="no second one"):
        next(prefetched)
    assert threads() == []


def test_error_of_the_consumer_stops_the_producer() -> None:
    def consume() -> None:
        for _ in prefetch(iter(range(100))):
            raise KeyError("of the consumer")

    with pytest.raises(KeyError):
        consume()
    assert threads() == []
