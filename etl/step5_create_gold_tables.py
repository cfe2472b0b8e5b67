"""Step 5: the tables and views of gold. Made only where they are not there yet; views follow their definition."""

from __future__ import annotations

from etl.utils.load import run_sql, transaction
from etl.utils.patience import patient
from etl.utils.run import RunContext, Step, StepResult

SCRIPTS = ("gold/create_gold_tables.sql", "gold/create_gold_views.sql")


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        for script in SCRIPTS:
            run_sql(db, script)
    return StepResult()


STEP = Step(5, "gold tables and views", run)

if __name__ == "__main__":
    from etl.utils.terminal import run_from_environment

    raise SystemExit(run_from_environment([STEP]))
