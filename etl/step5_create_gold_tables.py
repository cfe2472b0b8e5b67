"""Step 5: the tables and views of gold. Made where they are not there yet, or when their definition has changed.

Gold can be lost as a whole: its schema comes back here, too, and BI tools may read it again.
"""

from __future__ import annotations

from psycopg2 import sql

from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult
from etl.utils.state import GOLD_CURRENT, GOLD_MATCHING, define
from etl.utils.transactions import run_sql, table_name, transaction

FUNNELS = {
    "gold.conversion_funnel_per_day": (
        "_partition_date",
        GOLD_MATCHING,
        "Where do leads get lost, day by day? One row per day, of the leads in its snapshot.",
        "Day of the snapshot.",
    ),
    "gold.conversion_funnel_per_state": (
        "state",
        GOLD_CURRENT,
        "Where do leads get lost, state by state? One row per state, of all leads as they are now.",
        "USPS code; NULL for leads of which none is known.",
    ),
    "gold.conversion_funnel_per_disposition": (
        "dispo",
        GOLD_CURRENT,
        "Where do leads get lost, disposition by disposition? One row per disposition, of all leads as they are now.",
        "Disposition: what came of the lead; NULL for leads that have none.",
    ),
}
"""View → the column that it counts by, the rows it counts, the question it answers, and what the column is."""


@patient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        run_sql(db, "schemas/create_schemas.sql")
        run_sql(db, "schemas/admit_bi_reader.sql")
        define(db, "gold/create_gold_tables.sql")
        run_sql(db, "gold/create_references.sql")
        define(db, "gold/create_gold_views.sql")
        for view, (key, rows, question, of_key) in FUNNELS.items():
            define(
                db,
                "gold/create_funnel_view.sql",
                view=table_name(view),
                key=sql.Identifier(key),
                counted=table_name(rows),
                question=sql.Literal(question),
                of_key=sql.Literal(of_key),
            )
    return StepResult()


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(5))
