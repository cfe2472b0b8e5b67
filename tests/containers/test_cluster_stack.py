"""Profile cluster: a scheduler and two workers."""

from __future__ import annotations

import pytest
from stack import Stack

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def cluster(stack: Stack) -> Stack:
    stack.compose("--profile", "demo", "--profile", "cluster", "up", "--detach", "--wait", "s3", "scheduler", "worker")
    stack.compose("--profile", "demo", "run", "--rm", "-T", "sample")
    return stack


def test_run_over_two_workers_fills_gold(cluster: Stack) -> None:
    cluster.python("main.py", "--full-refresh", "--scheduler", "tcp://scheduler:8786")
    assert cluster.query("select count(*) from gold.lead_quality_matching") == "82365"
    workers = cluster.compose("--profile", "cluster", "logs", "scheduler").count("Register worker")
    assert workers == 2


def test_health_check_leaves_no_noise_in_the_log_of_the_scheduler(cluster: Stack) -> None:
    assert cluster.health("scheduler") == "healthy"
    log = cluster.compose("--profile", "cluster", "logs", "scheduler")
    assert "Traceback" not in log
    assert "Connection" not in log
