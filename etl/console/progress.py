"""Display progress: as a bar on a terminal, or as a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from etl.console.output import TextHandler, is_terminal, json_handler

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
Show = Callable[[int, int, float], None]
"""A function that displays the number of finished items, their rows, and the seconds since the start."""


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Display the progress of `total` items while the block runs.

    Yields a function to call with the row count of each finished item.
    """
    is_watched = is_terminal(sys.stderr) and not json_handler()
    lock = threading.Lock()
    began = time.monotonic()
    done = rows_done = 0
    with _bar(total) if is_watched and total > 1 else nullcontext(_lines(total)) as show:

        def advance(rows: int) -> None:
            nonlocal done, rows_done
            with lock:  # items finish in several threads
                done, rows_done = done + 1, rows_done + rows
                show(done, rows_done, time.monotonic() - began)

        yield advance


@contextmanager
def _bar(total: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.theme import Theme

    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    # Colour is reserved for warnings and errors.
    calm = dict.fromkeys(("bar.complete", "bar.finished", "bar.pulse", "progress.download"), "default")
    console = Console(stderr=True, theme=Theme({**calm, "progress.remaining": "dim"}))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        TextHandler.bar = bar
        try:
            yield lambda done, rows, seconds: bar.update(
                task, completed=done, description=_rows_and_rate(rows, seconds)
            )
        finally:
            TextHandler.bar = None


def _lines(total: int) -> Show:
    last = 0.0

    def log_line(done: int, rows: int, seconds: float) -> None:
        nonlocal last
        if seconds - last < SECONDS_BETWEEN_LINES or done == total:
            return
        last = seconds
        log.info(
            "%d of %d tasks done, %s, about %.0f s left",
            *(done, total, _rows_and_rate(rows, seconds), seconds / done * (total - done)),
            extra={
                "event": "progress",
                "counts": {"done": done, "total": total, "rows": rows},
                "seconds": round(seconds, 3),
            },
        )

    return log_line


def _rows_and_rate(rows: int, seconds: float) -> str:
    return f"{rows:,} rows, {rows / max(seconds, 0.001):,.0f} a second"
