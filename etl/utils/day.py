"""Snapshot days. CRM snapshots are loaded, cleaned and replaced day by day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Day:
    """The snapshot day of CSV file number `number`; `date` is its `_partition_date`."""

    number: int
    date: dt.date

    @classmethod
    def of_file(cls, number: int, partition_start_date: dt.date) -> Day:
        """Return the day of file n: PARTITION_START_DATE + (n - 1) days (specification, §3).

        Raises:
            OverflowError: the day is outside the range of dates in Python.
        """
        return cls(number, partition_start_date + dt.timedelta(days=number - 1))

    def __str__(self) -> str:
        return f"{self.date:%Y-%m-%d}"


def day_ranges(days: Iterable[dt.date]) -> str:
    """Return sorted days as text for a message, with consecutive days as a range: `2024-10-16 to 2024-10-22`."""
    ranges: list[list[dt.date]] = []
    for day in days:
        if ranges and day - ranges[-1][-1] == dt.timedelta(days=1):
            ranges[-1][1:] = [day]
        else:
            ranges.append([day])
    return ", ".join(" to ".join(map(str, ends)) for ends in ranges)
