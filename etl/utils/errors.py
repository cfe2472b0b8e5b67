"""The faults that a run can name. Each ends it with one message: what, where, and what to do next."""

from collections.abc import Iterable


class PipelineError(Exception):
    """A fault with a known cause. The command line prints it without a traceback and ends with `exit_code`."""

    exit_code = 1

    def __init__(
        self, message: str, *, step: str | None = None, hint: str | None = None, transient: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        self.hint = hint
        self.transient = transient
        """Whether the same work may well succeed when it is tried again in a moment (see `patience.patient`)."""

    def __reduce__(self) -> tuple[object, ...]:
        # The default would lose the keyword arguments when an error crosses a process boundary.
        return _rebuild, (type(self), self.message, self.step, self.hint, self.transient)

    def __str__(self) -> str:
        where = f"{self.step}: " if self.step else ""
        next_action = f"\n  → {self.hint}" if self.hint else ""
        return f"{where}{self.message}{next_action}"


def _rebuild(
    kind: type[PipelineError], message: str, step: str | None, hint: str | None, transient: bool
) -> PipelineError:
    return kind(message, step=step, hint=hint, transient=transient)


class SettingsError(PipelineError):
    """The environment lacks a setting or holds one that cannot be meant."""


class PostgresError(PipelineError):
    """PostgreSQL cannot be reached, or refused what was asked of it."""


class SourceError(PipelineError):
    """S3, or an object in it, cannot be read."""


class ClusterError(PipelineError):
    """The Dask scheduler or its workers cannot do the work."""


class CheckFailedError(PipelineError):
    """The tables are not what the run promises (SPEC §7)."""


class DataRefusedError(PipelineError):
    """A source file breaks its contract and was left out; its day keeps its last good rows."""

    exit_code = 2


class LockHeldError(PipelineError):
    """Another run is at work on this warehouse."""

    exit_code = 3


class AbortedError(PipelineError):
    """The run was asked to end: Ctrl-C, or SIGTERM."""


def shorten(value: object, limit: int = 80) -> str:
    """Show an offending value in a message, cut short and without control characters."""
    text = str(value)
    shown = text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
    return repr(shown)


def listed(names: Iterable[str]) -> str:
    """Names in a message: as they are, but for those that could not be read or would fill the screen."""
    return ", ".join(name if name.isprintable() and len(name) <= 80 else shorten(name) for name in names)
