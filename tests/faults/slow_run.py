"""Run main.py with a run that sleeps while it holds the run lock."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

from etl.engine import runner

PROJECT = Path(__file__).parents[2]

SECONDS = 4.0
"""Longer than other runs take to start and to fail to get the lock."""


def main() -> None:
    begin = runner._begin

    def begin_slowly(*arguments: Any) -> None:
        begin(*arguments)
        time.sleep(SECONDS)

    runner._begin = begin_slowly
    sys.argv[:] = ["main.py"]
    runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")


if __name__ == "__main__":
    main()
