"""First starts that go wrong: what is reported, and what a user does about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine import wait_for
from stack import Stack, change_settings

pytestmark = pytest.mark.containers
NewStack = Callable[..., Stack]


def test_interrupted_initialization_does_not_become_healthy(new_stack: NewStack) -> None:
    """A container that dies comes back by its restart policy, with a data directory that looks complete."""
    stack = new_stack("interrupted", POSTGRES_PUBLISHED_PORT="5433")
    script = stack.checkout / "sql_scripts" / "admin" / "create_warehouse.psql"
    complete = script.read_text(encoding="utf-8")
    script.write_text("select pg_terminate_backend(pg_backend_pid());", encoding="utf-8")
    stack.compose("up", "--detach", "postgres")
    is_ready = ("exec", "-T", "postgres", "pg_isready", "--host", "127.0.0.1")
    wait_for(lambda: stack.try_compose(*is_ready).returncode == 0, "the server after its restart", 30)
    wait_for(lambda: stack.health_checks("postgres") >= 3, "three health checks", 30)
    assert stack.health("postgres") != "healthy"
    script.write_text(complete, encoding="utf-8")
    stack.down()
    stack.compose("up", "--detach", "--wait", "postgres")


def test_superuser_as_pipeline_role_is_refused(new_stack: NewStack) -> None:
    stack = new_stack("superuser", POSTGRES_PUBLISHED_PORT="5433", POSTGRES_USER="postgres")
    stack.compose("up", "--detach", "postgres")
    refusal = "POSTGRES_USER must not be the superuser"
    wait_for(lambda: refusal in stack.compose("logs", "postgres"), "the refusal", 30)
    assert stack.health("postgres") != "healthy"


def test_taken_port_is_named_and_can_be_changed(stack: Stack, new_stack: NewStack) -> None:
    second = new_stack("second")
    refused = second.try_compose("up", "--detach", "postgres")
    assert refused.returncode != 0
    assert "127.0.0.1:5432" in refused.stderr
    assert "port is already allocated" in refused.stderr
    change_settings(second.checkout / ".env", {"POSTGRES_PUBLISHED_PORT": "5433"})
    second.compose("up", "--detach", "--wait", "postgres")
    assert second.compose("port", "postgres", "5432").strip() == "127.0.0.1:5433"
    assert stack.health("postgres") == "healthy"
