"""Work in two threads that belongs together: one piece of a day is written while the next one is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each of them made in a thread of its own while the one before it is at work."""
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as maker:
        coming = maker.submit(lambda: list(_next(source)))
        while item := coming.result():
            coming = maker.submit(lambda: list(_next(source)))
            yield item[0]


def _next(source: Iterator[Item]) -> Iterator[Item]:
    """The next item; nothing when there is none."""
    for item in source:
        yield item
        return
