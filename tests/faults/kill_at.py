"""`python kill_at.py <when> <commit>`: run main.py, and kill it before or after one of its commits.

`<when>` is `before` or `after`. `<commit>` is a number, or the name of a function that commits. The signal is SIGKILL.
After each commit, the names of the innermost functions that led to it are printed.
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from etl.warehouse import transactions

PROJECT = Path(__file__).parents[2]


def main() -> None:
    kill_beside_commit(*sys.argv[1:])
    sys.argv[:] = ["main.py"]
    runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")


def kill_beside_commit(when: str, target: str) -> None:
    commit = transactions._commit
    numbers = itertools.count(1)
    lock = threading.Lock()

    def commit_and_kill(*arguments: Any) -> None:
        with lock:
            functions = [frame.name for frame in traceback.extract_stack()]
            is_selected = target in (str(next(numbers)), *functions)
            if is_selected and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            commit(*arguments)
            print("committed:", *functions[-6:-1], flush=True)  # noqa: T201 - the test reads it
            if is_selected:
                os.kill(os.getpid(), signal.SIGKILL)

    transactions._commit = commit_and_kill


if __name__ == "__main__":
    main()
