"""Display progress: as a bar on a terminal, or as a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etl.console.output import TextHandler, is_terminal, json_handler

log = logging.getLogger(__name__)


SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Display the progress of `total` items while the block runs.

    Yields a function to call with the row count of each finished item.
    """
    is_watched = is_terminal(sys.stderr) and not json_handler()
    lock = threading.Lock()
    with _bar(total) if is_watched and total > 1 else _lines(total) as advance:

        def advance_once(rows: int) -> None:
            with lock:  # items finish in several threads
                advance(rows)

        yield advance_once


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.theme import Theme

    began = time.monotonic()
    rows_done = 0
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, TextHandler)]
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    # Colour is reserved for warnings and errors.
    calm = dict.fromkeys(("bar.complete", "bar.finished", "bar.pulse", "progress.download"), "default")
    console = Console(stderr=True, theme=Theme({**calm, "progress.remaining": "dim"}))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def advance(rows: int) -> None:
            nonlocal rows_done
            rows_done += rows
            bar.update(task, advance=1, description=_rows_and_rate(rows_done, began))

        for handler in handlers:
            handler.bar = bar
        try:
            yield advance
        finally:
            for handler in handlers:
                handler.bar = None


@contextmanager
def _lines(total: int) -> Iterator[Callable[[int], None]]:
    began = last = time.monotonic()
    done = rows_done = 0

    def advance(rows: int) -> None:
        nonlocal done, rows_done, last
        done, rows_done, now = done + 1, rows_done + rows, time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES or done == total:
            return
        last = now
        left = (now - began) / done * (total - done)
        counts = {"done": done, "total": total, "rows": rows_done}
        log.info(
            "%d of %d tasks done, %s, about %.0f s left",
            done,
            total,
            _rows_and_rate(rows_done, began),
            left,
            extra={"event": "progress", "counts": counts, "seconds": round(now - began, 3)},
        )

    yield advance


def _rows_and_rate(rows: int, began: float) -> str:
    return f"{rows:,} rows, {rows / max(time.monotonic() - began, 0.001):,.0f} a second"
