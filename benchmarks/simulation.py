"""What a cluster would take: so many workers, days and seconds of latency, in front of one PostgreSQL.

A day is three things, one after the other: S3 has to answer (nobody is busy), a core of the worker's host extracts and
cleans, a core of PostgreSQL takes in what comes of it. A thread of a worker has one day in hand at a time, and takes
the next one when it is done. `make bench-cluster` holds this against measured points.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Day:
    """What one day takes, in seconds."""

    latency: float
    """Until S3 answers."""
    extract_and_clean: float
    """Of a core of the worker's host."""
    postgres: float = 0.0
    """Of a core of PostgreSQL."""


@dataclass(frozen=True)
class Hosts:
    """What the days are spread over."""

    workers: int
    """Threads of workers: so many days are in hand at once."""
    worker_cores: int
    """All that the workers share."""
    postgres_cores: int = 1


def seconds_for(days: int, day: Day, hosts: Hosts) -> float:
    """How long so many days take: from the first request to the last commit."""
    stages = (
        (day.latency, None),
        (day.extract_and_clean, [0.0] * hosts.worker_cores),
        (day.postgres, [0.0] * hosts.postgres_cores),
    )
    order = count()  # who comes first is served first
    waiting = [(0.0, next(order), 0) for _ in range(min(hosts.workers, days))]
    begun, now, end = len(waiting), 0.0, 0.0
    while waiting:
        now, _, stage = heapq.heappop(waiting)
        if stage == len(stages):
            end = max(end, now)
            if begun == days:
                continue
            begun, stage = begun + 1, 0
        takes, cores = stages[stage]
        begins = now if cores is None else max(now, heapq.heappop(cores))
        if cores is not None:
            heapq.heappush(cores, begins + takes)
        heapq.heappush(waiting, (begins + takes, next(order), stage + 1))
    return end
