"""Step 1: the schemas, and the tables of bronze and silver.

Everything is made only where it is not there yet: a second run changes nothing.
"""

from __future__ import annotations

from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.transactions import run_sql, transaction

SCRIPTS = (
    "schemas/create_schemas.sql",
    "bronze/create_bronze_tables.sql",
    "silver/create_silver_tables.sql",
)


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        for script in SCRIPTS:
            run_sql(db, script)
    return StepResult()


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(1))
