"""Compute items in a background thread, so that one chunk is written while the next one is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items, each computed in a background thread while the caller processes the previous one."""
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as executor:
        upcoming = executor.submit(lambda: list(_next(source)))
        while item := upcoming.result():
            upcoming = executor.submit(lambda: list(_next(source)))
            yield item[0]


def _next(source: Iterator[Item]) -> Iterator[Item]:
    """Yield the next item, or nothing at the end."""
    for item in source:
        yield item
        return
