"""The model of a cluster, for cases that can be calculated without it."""

from __future__ import annotations

import pytest

from benchmarks.simulation import Day, Hosts, seconds_for


@pytest.mark.parametrize(
    ("days", "day", "hosts", "seconds"),
    [
        (22, Day(0, 1), Hosts(1, 1), 22),
        (22, Day(0, 1), Hosts(2, 2), 11),
        (21, Day(0, 1), Hosts(2, 2), 11),  # the last day is alone
        (22, Day(0, 1), Hosts(4, 2), 11),  # limited by the number of cores
        (22, Day(1, 1), Hosts(1, 1), 44),  # one at a time: each day waits for S3
        (22, Day(1, 1), Hosts(2, 1), 23),  # one waits while the other works
        (22, Day(9, 1), Hosts(22, 1), 9 + 22),
        (10, Day(0, 1, 2), Hosts(4, 4, 1), 1 + 10 * 2),  # PostgreSQL is the bottleneck
        (10, Day(0, 1, 2), Hosts(10, 10, 10), 3),
        (22, Day(0, 1, scheduling=0.5), Hosts(1, 2), 22),  # on the idle core
        (22, Day(0, 1, scheduling=0.5), Hosts(1, 1), 22 + 21 * 0.5),
        (1, Day(0.5, 1, 2), Hosts(64, 64, 64), 3.5),
        (0, Day(1, 1, 1), Hosts(4, 4), 0),
    ],
)
def test_days_take_as_long_as_the_bottleneck_permits(days: int, day: Day, hosts: Hosts, seconds: float) -> None:
    assert seconds_for(days, day, hosts) == pytest.approx(seconds)


def test_more_hosts_are_never_slower() -> None:
    day = Day(0.3, 0.7, 0.4)
    taken = [seconds_for(100, day, Hosts(n, n, n)) for n in (1, 2, 4, 8, 16, 32)]
    assert taken == sorted(taken, reverse=True)
