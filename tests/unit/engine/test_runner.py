"""The error of a run with several refusals."""

from __future__ import annotations

from etl.engine.runner import _refusal
from etl.utils.errors import DataRefusedError


def test_refusals_of_two_steps_name_both_steps() -> None:
    refused = [DataRefusedError(f"file {number}", step=f"step {number}", hint="request it again") for number in (2, 3)]
    assert str(_refusal(refused)) == ("step 2; step 3: 2 refusals:\n  1. file 2\n  2. file 3\n  → request it again")
