"""Simulate a cluster: workers, days and S3 latency, in front of one PostgreSQL.

A day has three parts, one after the other: S3 responds (no core is busy), a core of the worker's host extracts and
cleans, a core of PostgreSQL loads the rows. A thread of a worker processes one day at a time, and takes the next one
afterwards. If the scheduler shares the cores of the workers, as on one machine, it takes its part of them for each day,
while the worker continues. `make bench-cluster` compares this with measured points.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Day:
    """Duration of the parts of one day, in seconds."""

    latency: float
    """Until S3 responds."""
    extract_and_clean: float
    """Of a core of the worker's host."""
    postgres: float = 0.0
    """Of a core of PostgreSQL."""
    scheduling: float = 0.0
    """Of a core of the worker's host, if scheduler and driver share it."""


@dataclass(frozen=True)
class Hosts:
    """Hosts and cores that days are distributed over."""

    workers: int
    """Threads of workers: number of days processed in parallel."""
    worker_cores: int
    """Cores of PostgreSQL, shared by all workers."""
    postgres_cores: int = 1


def seconds_for(days: int, day: Day, hosts: Hosts) -> float:
    """Return the duration of all days: from the first request to the last commit."""
    worker_cores, postgres_cores = [0.0] * hosts.worker_cores, [0.0] * hosts.postgres_cores
    order = count()  # first come, first served
    waiting = [(0.0, next(order), "new day") for _ in range(min(hosts.workers, days))]
    begun, end = len(waiting), 0.0

    def then(moment: float, what: str) -> None:
        heapq.heappush(waiting, (moment, next(order), what))

    while waiting:
        now, _, what = heapq.heappop(waiting)
        if what == "new day":
            then(now + day.latency, "bytes are there")
        elif what == "bytes are there":
            cleaned = _occupy(worker_cores, now, day.extract_and_clean)
            then(cleaned, "cleaned")
            then(cleaned, "to be reported")
        elif what == "cleaned":
            then(_occupy(postgres_cores, now, day.postgres), "done")
        elif what == "to be reported":
            _occupy(worker_cores, now, day.scheduling)
        else:
            end = max(end, now)
            if begun < days:
                begun += 1
                then(now, "new day")
    return end


def _occupy(cores: list[float], now: float, seconds: float) -> float:
    """Occupy the core that is free first. Returns the time when it is done."""
    done = max(now, heapq.heappop(cores)) + seconds
    heapq.heappush(cores, done)
    return done
