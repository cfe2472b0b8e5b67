"""`docker compose up` and profile demo, as a user starts them."""

from __future__ import annotations

import re

import pytest
from stack import Stack

pytestmark = pytest.mark.containers
FIGURES = {"lead_quality_matching": 82_365, "leads": 4_364, "lead_quality_current": 4_347, "appointments": 945}
FIGURES |= {"lead_status_history": 5_774}


@pytest.mark.parametrize("table", FIGURES)
def test_demo_fills_gold(stack: Stack, table: str) -> None:
    assert stack.query(f"select count(*) from gold.{table}") == str(FIGURES[table])


def test_second_start_loads_nothing(stack: Stack) -> None:
    assert re.search("0 new · 0 changed · 23 skipped", stack.run_demo())


def test_pipeline_runs_in_the_workspace(stack: Stack) -> None:
    assert "23 skipped" in stack.python("main.py")


def test_workspace_is_writable(stack: Stack) -> None:
    stack.python("main.py", "--report")
    assert (stack.checkout / "reports" / "lead_quality.html").stat().st_uid == 1000
    stack.compose("exec", "-T", "jupyter", "touch", "your_jup_notebooks/new.ipynb")
    (stack.checkout / "your_jup_notebooks" / "new.ipynb").unlink()


def test_notebook_runs_in_jupyter(stack: Stack) -> None:
    convert = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout")
    printed = stack.compose("exec", "-T", "jupyter", *convert, "your_jup_notebooks/gold_EDA.ipynb")
    assert '"output_type": "error"' not in printed


def test_logs_rotate(stack: Stack) -> None:
    containers = stack.compose("--profile", "*", "ps", "--all", "--quiet").split()
    drivers = stack.engine.docker("inspect", "--format", "{{.HostConfig.LogConfig.Type}}", *containers).stdout.split()
    assert drivers == ["local"] * len(containers)
