"""A snapshot day: the unit in which everything is loaded, cleaned, matched and replaced."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Day:
    """The snapshot day that CSV file number `number` stands for: its `_partition_date` is `date`."""

    number: int
    date: dt.date

    @classmethod
    def of_file(cls, number: int, partition_start_date: dt.date) -> Day:
        """File n is the day PARTITION_START_DATE + (n - 1) (specification, §3).

        Raises:
            OverflowError: no calendar has that day.
        """
        return cls(number, partition_start_date + dt.timedelta(days=number - 1))

    @property
    def suffix(self) -> str:
        """What the names of this day's tables end in: `01`, `22`, `400`."""
        return f"{self.number:02d}"

    def __str__(self) -> str:
        return f"{self.date:%Y-%m-%d}"
