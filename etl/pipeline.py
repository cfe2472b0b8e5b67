"""Define the six steps, in order.

The module of a step is imported only when the step runs, so that a run that does not get the run lock ends at once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from etl.engine.context import RunContext, StepResult
from etl.engine.run_report import Step


def _step(number: int, title: str, module: str) -> Step:
    def run(context: RunContext) -> StepResult:
        run_step: Callable[[RunContext], StepResult] = import_module(f"etl.{module}").run
        return run_step(context)

    return Step(number, title, run)


STEPS = (
    _step(1, "schemas and tables", "step1_postgres_data_definition"),
    _step(2, "S3 → bronze", "step2_load_to_postgres"),
    _step(3, "bronze → cleaned rows", "step3_partition_and_load_all_csv"),
    _step(4, "cleaned rows → silver", "step4_data_types_postgres"),
    _step(5, "gold tables and views", "step5_create_gold_tables"),
    _step(6, "silver → gold", "step6_insert_into_gold_tables"),
)


def choose_steps(from_step: int = 1, only_step: int | None = None) -> list[Step]:
    """Return the steps from `from_step` on or, if `only_step` is given, only that step."""
    first, last = (only_step, only_step) if only_step else (from_step, len(STEPS))
    return [step for step in STEPS if first <= step.number <= last]


def run_alone(step: int) -> int:
    """Run one step with the settings of the environment or `.env`, for `python -m etl.step…`. Returns the exit code."""
    from etl.console.command import run_step_from_environment

    return run_step_from_environment(STEPS[step - 1])
