"""Write the results of the long fault suite to docs/reliability.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.documents import write_between

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- make faults -->", "<!-- end of make faults -->"


def write(reports: Iterable[pytest.TestReport], seconds: float) -> None:
    """Write each test, its number of repetitions and how many of them passed, between the markers of the document."""
    write_between(DOCUMENT, BEGIN, END, table(reports, seconds))


def table(reports: Iterable[pytest.TestReport], seconds: float) -> str:
    done: dict[tuple[str, str], list[int]] = {}
    for report in reports:
        module, _, name = report.nodeid.partition("::")
        counts = done.setdefault((module, name.partition("[")[0]), [0, 0])
        times = dict(report.user_properties).get("times", 1)
        counts[0] += int(times)  # type: ignore[call-overload]
        counts[1] += int(times) if report.passed else 0  # type: ignore[call-overload]
    lines = [
        f"| [{Path(module).stem.removeprefix('test_').replace('_', ' ')}](../{module}) "
        f"| {name.removeprefix('test_').replace('_', ' ')} | {times:,} | {held:,} |"
        for (module, name), (times, held) in sorted(done.items())
    ]
    all_done, all_held = (sum(counts[which] for counts in done.values()) for which in (0, 1))
    return "\n".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}, in {seconds / 60:.0f} minutes: "
            f"{all_held:,} of {all_done:,} runs passed.",
            "",
            "| file | fault and expected outcome | runs | passed |",
            "|---|---|---:|---:|",
            *lines,
        ]
    )
