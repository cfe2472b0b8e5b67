"""The six steps, in order."""

from __future__ import annotations

from etl import (
    step1_postgres_data_definition,
    step2_load_to_postgres,
    step3_partition_and_load_all_csv,
    step4_data_types_postgres,
    step5_create_gold_tables,
    step6_insert_into_gold_tables,
)
from etl.utils.run import Step

STEPS = (
    step1_postgres_data_definition.STEP,
    step2_load_to_postgres.STEP,
    step3_partition_and_load_all_csv.STEP,
    step4_data_types_postgres.STEP,
    step5_create_gold_tables.STEP,
    step6_insert_into_gold_tables.STEP,
)


def choose_steps(from_step: int = 1, only_step: int | None = None) -> list[Step]:
    """All steps, those from `from_step` on, or `only_step` alone."""
    first, last = (only_step, only_step) if only_step else (from_step, len(STEPS))
    return [step for step in STEPS if first <= step.number <= last]
