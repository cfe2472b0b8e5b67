"""Write logs and summaries: wrapped and coloured on a terminal, as plain text elsewhere, or as JSON lines.

Colour marks warnings, errors and the outcome, unless NO_COLOR is set. With `--log-format json`, each line on standard
output is one JSON object: `timestamp level run_id step event message counts seconds`, and further fields of some
events. Fields that do not apply are null.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from etl.engine.context import CURRENT_RUN
from etl.utils.errors import redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as ProgressBar


LOG_FORMATS = ("text", "json")


def configure_logging(level: str, log_format: str = "text") -> None:
    """Configure logging: text goes to standard error, JSON to standard output.

    Debug and info messages of some libraries are suppressed. `log_format` is one of LOG_FORMATS.
    """
    handler = JsonHandler() if log_format == "json" else TextHandler()
    logging.basicConfig(level=level.upper(), handlers=[handler], format="%(message)s")
    for chatty in ("boto3", "botocore", "urllib3", "s3transfer", "sqlalchemy", "matplotlib"):
        # Their debug lines contain request signatures and connection arguments.
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns with a traceback if credentials could not be renewed yet; if they expire, the request fails.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


def protect_streams() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams whose output errors do not end the program.

    Characters that the encoding lacks are escaped, and output that cannot be written is discarded. A stream that
    was closed before the program started discards all output. A stream that is not the original one of the process is
    kept.
    """
    sys.stdout = _protected(sys.stdout, sys.__stdout__)
    sys.stderr = _protected(sys.stderr, sys.__stderr__)


def _protected(stream: TextIO | None, original: TextIO | None) -> TextIO:
    if stream is None:  # closed before the program started
        return Path(os.devnull).open("w", encoding="utf-8")
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    os.set_blocking(stream.fileno(), True)  # output must not get lost if a parent made the pipe non-blocking
    return io.TextIOWrapper(
        io.BufferedWriter(_UnbreakableFile(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _UnbreakableFile(io.FileIO):
    """A file that discards what cannot be written, for example because the reader has exited (`| head`).

    A run continues if nobody reads its output; meta.pipeline_runs records how it ended.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


class Line(NamedTuple):
    """A line of output: a label, shown in a `style` of rich on a terminal, and a text, which wraps beside the label."""

    text: str = ""
    label: str = ""
    style: str = ""


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def write_lines(lines: Iterable[Line], stream: TextIO, console: Console | None = None) -> None:
    """Write lines to a stream. On a terminal, they are wrapped and coloured.

    Args:
        console: the console of a progress bar that is currently displayed. Lines are written to it, above the bar,
            instead of to `stream`.
    """
    if not console and not is_terminal(stream):
        stream.writelines(f"{line.label}{line.text}\n" for line in lines)
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = console or Console(file=stream)
    for line in lines:
        text = Text(_wrapped(line, max(console.width, 20)))
        text.stylize(line.style, 0, len(line.label))
        console.print(text, soft_wrap=True)


def _wrapped(line: Line, width: int) -> str:
    """Wrap a line between words. Continuation lines align with the text after the label.

    Further lines of the text are wrapped, too; their continuation lines are indented by two more spaces.
    """
    first, *others = f"{line.label}{line.text}".split("\n")
    indents = [len(line.label), *(len(other) - len(other.lstrip()) + 2 for other in others)]
    return "\n".join(
        part
        if len(part) <= width
        else textwrap.fill(part, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
        for part, indent in zip((first, *others), indents, strict=True)
    )


_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class TextHandler(logging.Handler):
    """A handler that writes log lines to standard error.

    Records with `in_summary` are omitted, because the summary contains them. While a progress bar is displayed, lines
    below level warning appear only with log level debug.
    """

    bar: ProgressBar | None = None

    def emit(self, record: logging.LogRecord) -> None:
        is_shown_by_bar = self.bar and record.levelno < logging.WARNING and logging.getLogger().level > logging.DEBUG
        if is_shown_by_bar or getattr(record, "in_summary", False):
            return
        label = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname:<7} "
        line = Line(redact(self.format(record)), label, _STYLES.get(record.levelno, ""))
        write_lines([line], sys.stderr, self.bar.console if self.bar else None)


class JsonHandler(logging.Handler):
    """A handler that writes each record as a JSON object to standard output, with its run id and step."""

    def __init__(self) -> None:
        from pythonjsonlogger.json import JsonFormatter

        super().__init__()
        self.setFormatter(
            JsonFormatter(
                "%(levelname)s %(run_id)s %(step)s %(event)s %(message)s %(counts)s %(seconds)s",
                rename_fields={"levelname": "level"},
                timestamp=True,
                reserved_attrs=[*vars(logging.makeLogRecord({})), "message", "asctime", "in_summary"],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        # Steps run one after the other, so a record belongs to the current one.
        for name, default in {**CURRENT_RUN, "event": "log", "counts": None, "seconds": None}.items():
            setattr(record, name, getattr(record, name, default))
        record.levelname = record.levelname.lower()
        sys.stdout.write(f"{redact(self.format(record))}\n")
        sys.stdout.flush()

    def echo(self, message: str, event: str, level: int = logging.INFO, **fields: Any) -> None:
        """Write an event, whatever the log level is. `fields` become fields of the JSON object."""
        record = {"msg": message, "levelno": level, "levelname": logging.getLevelName(level), "event": event}
        self.handle(logging.makeLogRecord(record | fields))


def json_handler() -> JsonHandler | None:
    """Return the JSON handler, or None if the output is text."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, JsonHandler)), None)


def echo(message: str, event: str) -> None:
    """Print a message on standard output, as text or as a JSON event."""
    if handler := json_handler():
        handler.echo(message.strip(), event)
    else:
        click.echo(message)
