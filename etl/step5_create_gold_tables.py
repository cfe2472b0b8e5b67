"""Step 5: the tables and views of gold. Made only where they are not there yet; views follow their definition."""

from __future__ import annotations

from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.transactions import run_sql, transaction

SCRIPTS = ("gold/create_gold_tables.sql", "gold/create_gold_views.sql")


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        for script in SCRIPTS:
            run_sql(db, script)
    return StepResult()


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(5))
