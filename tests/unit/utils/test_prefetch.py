"""One item is made while the one before it is at work; whatever fails, no thread stays behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from etl.utils.prefetch import prefetch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_the_items_are_the_same_in_the_same_order() -> None:
    assert list(prefetch(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(prefetch([])) == []
    assert threads() == []


def test_items_may_be_empty_or_none() -> None:
    assert list(prefetch([None, [], 0])) == [None, [], 0]


def test_the_next_item_is_made_while_this_one_is_at_work() -> None:
    begun = [threading.Event(), threading.Event()]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    ahead = prefetch(items())
    assert next(ahead) == 0
    assert begun[1].wait(timeout=5)
    ahead.close()  # type: ignore[attr-defined]
    assert threads() == []


def test_a_fault_in_the_making_comes_out_where_the_item_is_wanted() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second one")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no second one"):
        next(ahead)
    assert threads() == []


def test_a_fault_at_work_ends_the_making() -> None:
    def at_work() -> None:
        for _ in prefetch(iter(range(100))):
            raise KeyError("at work")

    with pytest.raises(KeyError):
        at_work()
    assert threads() == []
