"""Errors of the pipeline, and the functions that redact and shorten values in messages."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote


class PipelineError(Exception):
    """An error with a known cause. The command line prints it without a traceback and exits with `exit_code`.

    `str()` contains the message, the step where it was raised, and a hint about what to do next, if known.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, step: str | None = None, hint: str | None = None, transient: bool = False
    ) -> None:
        message = redact(message)
        super().__init__(message)
        self.message = message
        self.step = step
        self.hint = hint
        self.transient = transient
        """Whether a retry may succeed (see `retry.retry_transient`)."""

    def __str__(self) -> str:
        where = f"{self.step}: " if self.step else ""
        next_action = f"\n  → {self.hint}" if self.hint else ""
        return f"{where}{self.message}{next_action}"


class SettingsError(PipelineError):
    """Configuration error: a setting is missing or invalid, or `.env` cannot be read."""


class PostgresError(PipelineError):
    """PostgreSQL cannot be reached, cannot be used as the warehouse, or reports an error."""


class SourceError(PipelineError):
    """S3 cannot be read, or does not contain the source files as expected."""


class OutputError(PipelineError):
    """A file on this machine cannot be written."""


HOST_UID_HINT = "in a container, set HOST_UID in .env to the id of the folder's owner, and build the images again"


class ClusterError(PipelineError):
    """The Dask scheduler or its workers cannot run the pipeline."""


class CheckFailedError(PipelineError):
    """A data check failed, or a precondition of a step is not met."""


class LeadNotFoundError(PipelineError):
    """No table contains the requested lead."""


class DataRefusedError(PipelineError):
    """A source file violates its data contract, or a day is missing or late (MISSING_DAYS=refuse).

    A refused file is not loaded: the tables keep the rows that were loaded before. Leads that step 3 refuses are in
    bronze, but not in silver and gold.
    """

    exit_code = 2


class LockHeldError(PipelineError):
    """Another run is active on this warehouse, or this run has lost the run lock."""

    exit_code = 3


class AbortedError(PipelineError):
    """The run was aborted by Ctrl-C or SIGTERM, or has ended while a Dask worker was still working for it."""


_secrets: set[str] = set()


def register_secrets(*secrets: str | None) -> None:
    """Make `redact` remove these values. Ignores values of fewer than six characters, which may occur by chance."""
    for secret in secrets:
        if secret and len(secret) >= 6:
            _secrets.update((secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]))


def redact(text: str) -> str:
    """Replace registered secrets, query (signature) and user (password) of URLs, and `password=…` with asterisks."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _PASSWORD.sub(r"\1***", _URL_USER.sub("//***@", _URL_QUERY.sub(r"\1?***", text)))


_URL_QUERY = re.compile(r"(\bhttps?://[^\s?\"']*)\?[^\s\"']*")
_URL_USER = re.compile(r"//[^\s/@]+@")
_PASSWORD = re.compile(r"(\bpassword\s*=\s*)('[^']*'|[^\s\"'\\]+)", re.IGNORECASE)  # in a connection string


def shorten(value: object, limit: int = 80) -> str:
    """Return the quoted text of a value for a message. After `limit` characters it is cut, and its length appended."""
    text = str(value)
    shown = text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
    return repr(shown)


MOST_LISTED = 20
"""Maximum number of names that a message lists."""


def listed(names: Iterable[str]) -> str:
    """Join the first names with commas for a message. Long names are shortened, unprintable names are escaped."""
    shown = [name if name.isprintable() and len(name) <= 80 else shorten(name) for name in names]
    more = [f"… ({len(shown) - MOST_LISTED:,} more)"] if len(shown) > MOST_LISTED else []
    return ", ".join(shown[:MOST_LISTED] + more)
