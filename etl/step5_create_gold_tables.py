"""Step 5: create missing tables of gold, and views and functions that are missing or whose definition has changed.

Columns and foreign keys that existing tables lack are added. The step also creates missing schemas and grants readers
access, so that steps 5 and 6 restore gold after the schema was dropped.
"""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.engine.context import RunContext, StepResult
from etl.utils.columns import GOLD_COLUMNS
from etl.utils.retry import retry_transient
from etl.warehouse.definitions import apply_ddl
from etl.warehouse.descriptions import apply_descriptions
from etl.warehouse.partitions import add_missing_columns, table_columns
from etl.warehouse.sql_scripts import quote_identifier, run_sql
from etl.warehouse.tables import GOLD_CURRENT, GOLD_LEADS, GOLD_MATCHING, SILVER_SNAPSHOTS
from etl.warehouse.transactions import transaction

FUNNELS = {
    "gold.conversion_funnel_per_day": ("_partition_date", GOLD_MATCHING),
    "gold.conversion_funnel_per_state": ("state", GOLD_CURRENT),
    "gold.conversion_funnel_per_disposition": ("dispo", GOLD_CURRENT),
    "gold.conversion_funnel_per_first_week": ("first_week", "gold.lead_outcomes"),
}
"""View → the column by which it groups, and the table or view whose rows it counts."""


@retry_transient()
def run(context: RunContext) -> StepResult:
    with transaction(context.settings) as db:
        run_sql(db, "schemas/create_schemas.sql")
        apply_ddl(db, "gold/create_gold_tables.sql")
        add_columns(db)
        run_sql(db, "gold/create_references.sql")
        apply_ddl(db, "gold/create_gold_views.sql")
        for view, (key, rows) in FUNNELS.items():
            names = {"view": quote_identifier(view), "key": sql.Identifier(key), "counted": quote_identifier(rows)}
            apply_ddl(db, "gold/create_funnel_view.sql", **names)
        apply_ddl(db, "gold/create_observability.sql")
        known = {"lead_uuid", *GOLD_COLUMNS, "first_seen", "last_seen"}
        # columns that users have added: NULL of their types
        columns = (
            sql.SQL("{}" if name in known else "(null::gold.leads).{}").format(sql.Identifier(name))
            for name in table_columns(db, GOLD_LEADS)
        )
        apply_ddl(db, "gold/create_leads_as_of.sql", columns=sql.SQL(", ").join(columns))
        apply_descriptions(db, "gold")
        run_sql(db, "schemas/admit_readers.sql")
    return StepResult()


def add_columns(db: Cursor) -> None:
    """Add missing columns to existing tables of gold (see `add_missing_columns`).

    The columns are the CRM columns of `GOLD_COLUMNS` that silver has, with silver's types, and `lead_match_id` of
    gold.lead_quality_matching.

    Raises:
        PostgresError: see `add_missing_columns`.
    """
    db.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass(%s)",
        (SILVER_SNAPSHOTS,),
    )
    types = dict(db.fetchall())
    columns = {name: types[name] for name in GOLD_COLUMNS if name in types}
    tables = dict.fromkeys((GOLD_MATCHING, GOLD_LEADS, GOLD_CURRENT), columns)
    add_missing_columns(db, tables | {GOLD_MATCHING: columns | {"lead_match_id": "int"}})


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(5))
