"""`python kill_at.py <when> <commit number>`: run main.py, and kill it before or after one of its commits.

`<when>` is `before` or `after`. The signal is SIGKILL.
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from etl.warehouse import transactions

PROJECT = Path(__file__).parents[2]


def main() -> None:
    when, number = sys.argv[1], int(sys.argv[2])
    kill_beside_commit(when, number)
    sys.argv[:] = ["main.py"]
    runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")


def kill_beside_commit(when: str, number: int) -> None:
    commit = transactions._commit
    numbers = itertools.count(1)
    lock = threading.Lock()

    def commit_and_kill(*arguments: Any) -> None:
        with lock:
            is_selected = next(numbers) == number
            if is_selected and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            commit(*arguments)
            if is_selected:
                os.kill(os.getpid(), signal.SIGKILL)

    transactions._commit = commit_and_kill


if __name__ == "__main__":
    main()
