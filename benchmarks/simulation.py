"""Simulation of a cluster: workers that process days with a given S3 latency and load them into one PostgreSQL.

A day has three consecutive parts: S3 responds (no core is busy), a core of the worker's host extracts and cleans, a
core of PostgreSQL loads the rows. A worker thread processes one day at a time. If the scheduler shares the cores of the
workers, as on one machine, it occupies one of them for part of each day, while the worker continues.
`make bench-cluster` compares the simulation with measurements.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Day:
    """Duration of the parts of one day, in seconds."""

    latency: float
    """Time until S3 responds."""
    extract_and_clean: float
    """CPU time on the worker's host."""
    postgres: float = 0.0
    """CPU time of PostgreSQL."""
    scheduling: float = 0.0
    """CPU time of scheduler and driver on the worker's host, if they share it."""


@dataclass(frozen=True)
class Hosts:
    """Threads and cores that process the days."""

    workers: int
    """Number of worker threads: days processed in parallel."""
    worker_cores: int
    """Cores of the workers' hosts, shared by all workers."""
    postgres_cores: int = 1
    """Cores of PostgreSQL, shared by all workers."""


def seconds_for(days: int, day: Day, hosts: Hosts) -> float:
    """Return the duration in seconds from the first request of the first day to the last commit."""
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
    """Occupy the core that is free first. Return the time at which it is free again."""
    done = max(now, heapq.heappop(cores)) + seconds
    heapq.heappush(cores, done)
    return done
