"""What a cluster would take: so many workers, days and seconds of latency, in front of one PostgreSQL.

A day is three things, one after the other: S3 has to answer (nobody is busy), a core of the worker's host extracts and
cleans, a core of PostgreSQL takes in what comes of it. A thread of a worker has one day in hand at a time, and takes
the next one when it is done. Where the scheduler shares the cores of the workers, as on one machine, it takes its part
of them for each day, while the worker goes on. `make bench-cluster` holds this against measured points.
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
    scheduling: float = 0.0
    """Of a core of the worker's host, where scheduler and driver are there, too."""


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
    worker_cores, postgres_cores = [0.0] * hosts.worker_cores, [0.0] * hosts.postgres_cores
    order = count()  # who comes first is served first
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
            then(cleaned, "to be told")
        elif what == "cleaned":
            then(_occupy(postgres_cores, now, day.postgres), "done")
        elif what == "to be told":
            _occupy(worker_cores, now, day.scheduling)
        else:
            end = max(end, now)
            if begun < days:
                begun += 1
                then(now, "new day")
    return end


def _occupy(cores: list[float], now: float, seconds: float) -> float:
    """Take the core that is free first. Returns when it is done."""
    done = max(now, heapq.heappop(cores)) + seconds
    heapq.heappush(cores, done)
    return done
