"""Kill runs by SIGKILL before or after a commit, without starting a new Python.

The run happens in a forked child process: all of its threads and connections end with it, as those of a killed
`main.py`. The child inherits the modules, including what a test has patched in them.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection

TIMEOUT_SECONDS = 120.0


class RunHungError(Exception):
    """The run neither ended nor reached the commit at which it should be killed."""


class KillSwitch:
    """Kills its process before or after the n-th commit after arming, in any thread."""

    def __init__(self, when: Literal["before", "after"], commit: int) -> None:
        self._when = when
        self._remaining = commit
        self._is_armed = False
        self._one_at_a_time = threading.Lock()

    def arm(self) -> None:
        self._is_armed = True

    def commit(self, commit: Callable[[], None]) -> None:
        with self._one_at_a_time:
            self._remaining -= self._is_armed
            is_last = self._is_armed and self._remaining == 0
            if is_last and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            commit()
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)


def run_and_kill(run: Callable[[], str | None], switch: KillSwitch) -> tuple[bool, str]:
    """Run in a child process whose commits go through the switch.

    The caller must have closed all of its own connections to the warehouse and to S3 that `run` could use.

    Args:
        run: arms the switch; returns an error message, or None.

    Returns:
        Whether the run was killed, and its error if it was not.
    """
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading_end)
        _run_in_child(run, switch, writing_end)
    os.close(writing_end)
    try:
        message = _read_all(reading_end)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        raise RunHungError(f"the run did not end within {TIMEOUT_SECONDS:.0f} s") from None
    finally:
        os.close(reading_end)
        _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and os.waitstatus_to_exitcode(status):
        raise RuntimeError(message)
    return killed, message


def _run_in_child(run: Callable[[], str | None], switch: KillSwitch, writing_end: int) -> None:
    """Run, report through the pipe, and exit without the clean-up of the parent."""
    exit_code = 1
    try:
        _let_commits_go_through(switch)
        os.write(writing_end, (run() or "").encode())
        exit_code = 0
    except BaseException:  # noqa: BLE001 - the parent raises it
        os.write(writing_end, traceback.format_exc().encode())
    finally:
        os._exit(exit_code)


def _let_commits_go_through(switch: KillSwitch) -> None:
    class SwitchedConnection(Connection):
        def commit(self) -> None:
            switch.commit(super().commit)

    connect = psycopg2.connect

    def connect_switched(*arguments: Any, **options: Any) -> Any:
        return connect(*arguments, connection_factory=SwitchedConnection, **options)

    psycopg2.connect = connect_switched


def _read_all(end: int) -> str:
    """Read until the other end is closed, also by the end of the child."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    received = b""
    while True:
        ready, _, _ = select.select([end], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(end, 65536)
        if not chunk:
            return received.decode()
        received += chunk


def wait_until_sessions_end(query: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """Wait until the session of `query` is the only one on the database.

    The server notices a lost client with a delay; a commit in progress is visible or rolled back then.
    """
    others = (
        "select pid, application_name, state, query from pg_stat_activity "
        "where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while sessions := query(others):
        if time.monotonic() > deadline:
            raise RunHungError(f"sessions that did not end: {sessions}")
        time.sleep(0.002)
