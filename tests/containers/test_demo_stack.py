"""`docker compose up` and profile demo, as a user starts them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from engine import run
from stack import Stack
from support import PROJECT

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


def test_backup_is_restored_into_a_new_volume_as_documented(stack: Stack, new_stack: Callable[..., Stack]) -> None:
    text = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```shell\n(.*?)```", text, flags=re.DOTALL) if "pg_restore" in block)
    _, dump, check, *restore = block.replace("\\\n", "").splitlines()
    new = new_stack("restored", POSTGRES_PUBLISHED_PORT="5434", POSTGRES_PASSWORD="of-the-restored-warehouse")

    def shell(command: str, where: Stack) -> str:
        environment = {**where.engine.environment, **where.settings}
        return run(["bash", "-e", "-o", "pipefail", "-c", command], environment, cwd=where.checkout, check=True).stdout

    shell(dump, stack)
    assert "TABLE DATA gold leads" in shell(check, stack)
    (stack.checkout / "warehouse.dump").rename(new.checkout / "warehouse.dump")
    for command in restore:
        shell(command, new)
    for query in ("select count(*) from gold.leads", "select tableowner from pg_tables where tablename = 'leads'"):
        assert new.query(query) == stack.query(query)
    assert "tables of leads" not in new.compose(
        "run", "--rm", "python", "python", "main.py", "--dry-run", "--from-step", "5"
    )


def test_logs_rotate(stack: Stack) -> None:
    containers = stack.compose("--profile", "*", "ps", "--all", "--quiet").split()
    drivers = stack.engine.docker("inspect", "--format", "{{.HostConfig.LogConfig.Type}}", *containers).stdout.split()
    assert drivers == ["local"] * len(containers)
