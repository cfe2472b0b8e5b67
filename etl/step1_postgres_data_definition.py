"""Step 1: the schemas, and the tables of bronze and silver.

Everything is made only where it is not there yet: a second run changes nothing.
"""

from __future__ import annotations

from etl.utils.load import run_sql, transaction
from etl.utils.patience import patient
from etl.utils.run import RunContext, Step, StepResult

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


STEP = Step(1, "schemas and tables", run)

if __name__ == "__main__":
    from etl.utils.terminal import run_from_environment

    raise SystemExit(run_from_environment([STEP]))
