"""Containers that stop, are killed or restart: the warehouse stays whole, and the next run completes."""

from __future__ import annotations

import time

import pytest
from engine import wait_for
from stack import Stack

pytestmark = pytest.mark.containers
REFRESH = ("python", "main.py", "--full-refresh", "--workers", "1")
LAST_STATUS = "select status from meta.pipeline_runs order by started_at desc limit 1"
COUNT_GOLD = "select count(*) from gold.lead_quality_matching"


def wait_for_run(stack: Stack) -> None:
    wait_for(lambda: stack.query(LAST_STATUS) == "running", "a run", 20)


def test_stopped_run_is_recorded_as_aborted(stack: Stack) -> None:
    stack.compose("run", "--rm", "-T", "--detach", "--name", "refresh", "python", *REFRESH)
    wait_for_run(stack)
    began = time.monotonic()
    assert stack.engine.docker("stop", "refresh").returncode == 0
    assert time.monotonic() - began < 8, "docker kills after 10 s"
    assert stack.query(LAST_STATUS) == "aborted"
    assert stack.query(COUNT_GOLD) == "82365"


def test_run_after_a_killed_one_completes(stack: Stack) -> None:
    stack.compose("exec", "-T", "--detach", "python", *REFRESH)
    wait_for_run(stack)
    stack.compose("stop", "python")  # an executed command gets no signal: it is killed with its container
    stack.compose("start", "python")
    stack.python("main.py")
    assert stack.query(LAST_STATUS) == "complete"
    assert stack.query(COUNT_GOLD) == "82365"


def test_warehouse_survives_a_restart_of_postgres(stack: Stack) -> None:
    stack.compose("restart", "postgres")
    stack.compose("up", "--detach", "--wait")
    assert stack.query(COUNT_GOLD) == "82365"


def test_services_come_back_when_the_engine_restarts(stack: Stack) -> None:
    stack.engine.stop()
    stack.engine.start()
    wait_for(lambda: stack.health("postgres") == "healthy", "a healthy PostgreSQL", 30)
    running = stack.compose("ps", "--services", "--status", "running").split()
    assert {"postgres", "python", "jupyter"} <= set(running)
    assert stack.query(COUNT_GOLD) == "82365"


def test_warehouse_survives_down_and_up(stack: Stack) -> None:
    stack.compose("--profile", "*", "down")
    assert stack.compose("ps", "--all", "--quiet") == ""
    stack.compose("up", "--detach", "--wait")
    assert stack.query(COUNT_GOLD) == "82365"
