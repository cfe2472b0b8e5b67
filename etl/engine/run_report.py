"""The report of a run: its steps, their results, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from etl.engine.context import RunContext, StepResult
from etl.utils.errors import AbortedError, PipelineError


@dataclass(frozen=True)
class Step:
    """One of the six steps: number, title, and the function that runs it."""

    number: int
    title: str
    run: Callable[[RunContext], StepResult]

    def __str__(self) -> str:
        return f"step {self.number}, {self.title}"


@dataclass(frozen=True)
class StepReport:
    """A finished step and its duration."""

    step: Step
    result: StepResult
    seconds: float


@dataclass
class RunReport:
    """The outcome of a run so far, as shown in the summary and recorded in meta.pipeline_runs."""

    run_id: str
    steps: list[StepReport] = field(default_factory=list)
    rows_per_table: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """Warnings from steps, and failed checks of severity `warn`."""
    seconds: float = 0.0
    error: PipelineError | None = None

    @property
    def exit_code(self) -> int:
        """Exit code: 0 complete, 1 failed or aborted, 2 data refused, 3 another run is active (specification, §7)."""
        return self.error.exit_code if self.error else 0

    @property
    def status(self) -> str:
        """Status in meta.pipeline_runs: `complete`, `refused`, `aborted` or `failed`."""
        if isinstance(self.error, AbortedError):
            return "aborted"
        return {0: "complete", 2: "refused"}.get(self.exit_code, "failed")
