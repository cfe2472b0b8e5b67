"""Compute items in a background thread, so that one chunk is written while the next one is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items, each computed in a background thread while the caller processes the previous one."""
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as executor:
        upcoming = executor.submit(next, source, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = executor.submit(next, source, _END)
            yield item


_END: Any = object()
