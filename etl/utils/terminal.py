"""What people and orchestrators see of a run: log lines while it works, a summary and a clear error when it ends.

On a terminal there is a progress bar, lines break between words, and colour marks what went wrong (unless NO_COLOR is
set). Elsewhere the same lines are plain text. With `--log-format json` all is one JSON object a line on standard
output: `timestamp level run_id step event message counts seconds`; the last two are null where nothing came to its end.
"""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from etl.utils.errors import PipelineError, shorten
from etl.utils.run import RunReport, Step, abortable, run_steps
from etl.utils.utils_connection import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as ProgressBar

log = logging.getLogger(__name__)

LOG_FORMATS = ("text", "json")


def configure_logging(level: str, log_format: str = "text") -> None:
    """Text: log lines go to standard error, the summary to standard output. JSON: all goes to standard output."""
    handler = _JsonLines() if log_format == "json" else _TextLines()
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for chatty in ("boto3", "botocore", "urllib3", "s3transfer", "sqlalchemy", "matplotlib"):
        # Their debug lines hold request signatures and connection arguments, or say nothing of the run.
        logging.getLogger(chatty).setLevel(logging.WARNING)


# --- lines of text --------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line of output: a label, which alone can be coloured, and text that wraps beside it."""

    text: str = ""
    label: str = ""
    style: str = ""


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _write(lines: Iterable[Line], stream: TextIO, console: Console | None = None) -> None:
    """Write lines as they are, or, on a terminal, wrapped and coloured.

    Args:
        console: the terminal, where something else is at work on it.
    """
    if not console and not _is_terminal(stream):
        stream.writelines(f"{line.label}{line.text}\n" for line in lines)
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = console or Console(file=stream)
    for line in lines:
        text = Text(_wrapped(line, console.width))
        text.stylize(line.style, 0, len(line.label))
        console.print(text, soft_wrap=True)


def _wrapped(line: Line, width: int) -> str:
    """Broken between words, what follows indented to stand beside the label."""
    first, *others = f"{line.label}{line.text}".split("\n")
    indents = [len(line.label), *(len(other) - len(other.lstrip()) + 2 for other in others)]
    return "\n".join(
        part
        if len(part) <= width
        else textwrap.fill(part, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
        for part, indent in zip((first, *others), indents, strict=True)
    )


_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class _TextLines(logging.Handler):
    """Writes log lines to standard error.

    Where a bar shows how far the days have come, what is done of each is told to those alone who debug.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: ProgressBar | None = None
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        is_told_by_bar = self.bar and record.levelno < logging.WARNING and logging.getLogger().level > logging.DEBUG
        if is_told_by_bar or getattr(record, "in_summary", False):
            return
        label = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname:<7} "
        line = Line(self.format(record), label, _STYLES.get(record.levelno, ""))
        _write([line], sys.stderr, self.bar.console if self.bar else None)


# --- lines of JSON --------------------------------------------------------------------------------


class _JsonLines(logging.Handler):
    """Writes each record as a JSON object to standard output, with the run and the step that it belongs to."""

    def __init__(self) -> None:
        from pythonjsonlogger.json import JsonFormatter

        super().__init__()
        self.belongs_to: dict[str, Any] = {"run_id": None, "step": None}
        self.setFormatter(
            JsonFormatter(
                "%(levelname)s %(run_id)s %(step)s %(event)s %(message)s %(counts)s %(seconds)s",
                rename_fields={"levelname": "level"},
                timestamp=True,
                json_ensure_ascii=False,
                reserved_attrs=[*vars(logging.makeLogRecord({})), "message", "asctime", "in_summary"],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        for name in self.belongs_to:
            # Steps come one after the other: a record belongs to what was begun last.
            self.belongs_to[name] = getattr(record, name, self.belongs_to[name])
            setattr(record, name, self.belongs_to[name])
        for name, default in (("event", "log"), ("counts", None), ("seconds", None)):
            setattr(record, name, getattr(record, name, default))
        record.levelname = record.levelname.lower()
        sys.stdout.write(f"{self.format(record)}\n")
        sys.stdout.flush()

    def tell(self, message: str, event: str, level: int = logging.INFO, **fields: Any) -> None:
        """Write an event of its own, whatever the log level."""
        record = {"msg": message, "levelno": level, "levelname": logging.getLevelName(level), "event": event}
        self.handle(logging.makeLogRecord(record | fields))


def _json_lines() -> _JsonLines | None:
    """Who writes JSON; None when people are to read it."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, _JsonLines)), None)


def tell(message: str, event: str) -> None:
    """Say what a program has to say on standard output."""
    if json_lines := _json_lines():
        json_lines.tell(message.strip(), event)
    else:
        click.echo(message)


# --- progress -------------------------------------------------------------------------------------

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """How far long work has come: a bar on a terminal, a line every few seconds in a log."""
    is_watched = _is_terminal(sys.stderr) and not _json_lines()
    with _bar(total) if is_watched and total > 1 else _lines(total) as advance:
        yield advance


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.theme import Theme

    began = time.monotonic()
    rows_done = 0
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, _TextLines)]
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    # Colour is left for what goes wrong.
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
    one_at_a_time = threading.Lock()

    def advance(rows: int) -> None:
        nonlocal done, rows_done, last
        with one_at_a_time:
            done, rows_done, now = done + 1, rows_done + rows, time.monotonic()
            if now - last < SECONDS_BETWEEN_LINES or done == total:
                return
            last = now
            left = (now - began) / done * (total - done)
            counts = {"done": done, "total": total, "rows": rows_done}
            log.info(
                "%d of %d done, %s, about %.0f s left",
                done,
                total,
                _rows_and_rate(rows_done, began),
                left,
                extra={"event": "progress", "counts": counts, "seconds": round(now - began, 3)},
            )

    yield advance


def _rows_and_rate(rows: int, began: float) -> str:
    return f"{rows:,} rows, {rows / max(time.monotonic() - began, 0.001):,.0f} a second"


# --- a program's work, and how it ended -----------------------------------------------------------


def run_and_report(settings: Settings, steps: Sequence[Step], **options: Any) -> int:
    """Carry out the steps with the options of `run_steps`, print the summary, return the exit code."""
    report = run_steps(settings, steps, progress=progress, **options)
    if json_lines := _json_lines():
        _tell_end(json_lines, report)
        return report.exit_code
    if report.steps:
        _write(_summary(report), sys.stdout)
    if report.error:
        if report.steps and _is_terminal(sys.stderr):
            sys.stderr.write("\n")  # apart from the summary
        print_error(report.error)
    return report.exit_code


def run_from_environment(steps: Sequence[Step]) -> int:
    """What `python -m etl.step…` does: these steps alone, with the settings of the environment."""
    configure_logging("info")
    return ended_well(lambda: run_and_report(load_settings(), steps))


def ended_well(work: Callable[[], int]) -> int:
    """Do the work of a program and return its exit code; whatever goes wrong is told in one message."""
    try:
        with abortable():
            return work()
    except PipelineError as error:
        print_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 1  # click's own 2 would say that data was refused
    except Exception as error:  # noqa: BLE001 - the last one to know: it ends the program, and says so
        print_unexpected(error)
        return 1


def print_unexpected(error: Exception) -> None:
    """Say that the pipeline itself is at fault. The traceback is for those who ask: it may show data."""
    fault = PipelineError(
        f"unexpected {type(error).__name__}: {shorten(error, 200)}",
        hint="this is a fault of the pipeline: run again with --log-level debug and report what it prints. "
        "Nothing is half done",
    )
    print_error(fault)
    log.debug("how it came to this:", exc_info=error)


def print_error(error: PipelineError) -> None:
    """Say what is wrong, where, and what to do next: without a traceback, on standard error where people read it."""
    if json_lines := _json_lines():
        json_lines.tell(error.message, "error", logging.ERROR, error=_error_fields(error))
    else:
        _write([Line(str(error), "error: ", "bold red")], sys.stderr)
    log.debug("how it came to this:", exc_info=error)


def _tell_end(json_lines: _JsonLines, report: RunReport) -> None:
    json_lines.tell(
        f"run {report.status}",
        "run_ended",
        logging.ERROR if report.error else logging.INFO,
        run_id=report.run_id,
        step=None,
        status=report.status,
        exit_code=report.exit_code,
        seconds=round(report.seconds, 3),
        counts={**_facts(report), "rows_per_table": dict(report.rows_per_table)},
        findings=[str(finding) for finding in report.findings],
        error=_error_fields(report.error) if report.error else None,
    )


def _error_fields(error: PipelineError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "message": error.message, "where": error.step, "hint": error.hint}


def _summary(report: RunReport) -> Iterator[Line]:
    """What each step did, and what stands in the tables now. Fits a terminal of 80 columns."""
    for part in (_steps_table(report), _facts_lines(report), _tables_table(report)):
        yield Line()
        yield from part
    for finding in report.findings:
        yield Line()
        yield Line(str(finding), "warning: ", "bold yellow")
    yield Line()
    outcome, style = ("complete", "bold green") if report.exit_code == 0 else (report.status, "bold red")
    yield Line(f" in {report.seconds:.2f} s, run {report.run_id}", outcome, style)


def _steps_table(report: RunReport) -> list[Line]:
    rows = []
    for done in report.steps:
        moves_rows = done.step.number not in (1, 5)
        counts = (done.result.rows_in, done.result.rows_out, done.result.rejected)
        cells = (f"{count:,}" if moves_rows else "" for count in counts)
        rows.append((f"{done.step.number}  {done.step.title}", *cells, f"{done.seconds:.2f}"))
    return _table(("step", "rows in", "rows out", "rejected", "seconds"), rows)


def _facts(report: RunReport) -> dict[str, dict[str, int]]:
    facts: dict[str, dict[str, int]] = {}
    for done in report.steps:
        for subject, counts in done.result.facts.items():
            facts.setdefault(subject, {}).update(counts)
    return facts


def _facts_lines(report: RunReport) -> list[Line]:
    facts = _facts(report)
    width = max(map(len, facts), default=0)
    return [
        Line(" · ".join(f"{count:,} {what}" for what, count in counts.items()), f"{subject:<{width}}  ")
        for subject, counts in facts.items()
    ]


def _tables_table(report: RunReport) -> list[Line]:
    return _table(("table", "rows now"), [(name, f"{rows:,}") for name, rows in report.rows_per_table.items()])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Line]:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    head, *lines = (
        "  ".join(
            [f"{name:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))]
        )
        for name, *cells in (headings, *rows)
    )
    return [Line(label=head, style="bold"), *map(Line, lines)]
