"""The command line of main.py, whose run takes its time in step 2; says on standard output when it has started up."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2  # noqa: F401 - part of starting up
import sqlalchemy  # noqa: F401
import tenacity  # noqa: F401

from etl import step2_load_to_postgres as step2

PROJECT = Path(__file__).parents[2]

SECONDS = 4.0
"""More than it takes the others to start up and to give up the lock."""


def main() -> None:
    publish = step2.publish

    def publish_late(*arguments: Any) -> None:
        time.sleep(SECONDS)
        publish(*arguments)

    step2.publish = publish_late
    sys.stdout.write("started\n")
    sys.stdout.flush()
    sys.argv[:] = ["main.py"]
    runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")


if __name__ == "__main__":
    main()
