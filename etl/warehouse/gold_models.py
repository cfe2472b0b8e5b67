"""Build the tables of leads in gold: leads, lead_quality_current, appointments, lead_status_history.

Each table is a model: a query in sql_scripts/gold/models/ over the row versions of affected leads. Its rows are built
in schema staging and merged into the table of the same name by the transaction that publishes gold. In a full refresh,
all leads are affected.
"""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from etl.utils.columns import BLANKS, CLEANED_COLUMNS, GOLD_COLUMNS, TRIMMED_IN_GOLD
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import TableLoad, current_loads, fenced_transaction, record_load
from etl.warehouse.partitions import empty_table, table_columns
from etl.warehouse.row_versions import add_all_leads, current_version_loads
from etl.warehouse.sql_scripts import quote_identifier, quote_identifiers, run_sql, script_text, scripts_digest
from etl.warehouse.tables import GOLD_APPOINTMENTS, GOLD_CURRENT, GOLD_HISTORY, GOLD_LEADS, GOLD_MATCHING

MODELS = {
    GOLD_LEADS: "old.lead_uuid = new.lead_uuid",
    GOLD_CURRENT: "old.lead_uuid = new.lead_uuid",
    # Includes the id, so that a row whose id was modified externally is replaced.
    GOLD_APPOINTMENTS: "(old.lead_uuid, old.appointment_date, old.appointment_id) "
    "= (new.lead_uuid, new.appointment_date, new.appointment_id)",
    GOLD_HISTORY: "(old.lead_uuid, old.valid_from) = (new.lead_uuid, new.valid_from) "
    "and old.lead_number is not distinct from new.lead_number",
}
"""Table → unique key, as an SQL condition on an old and a new row. Tables that others reference come first."""

AFFECTED = ("staging.affected_leads", "staging.affected_versions")
"""The staging tables from which the models are built."""
BUILD_ORDER = (GOLD_CURRENT, GOLD_LEADS, GOLD_APPOINTMENTS, GOLD_HISTORY)
"""The models, in the order in which they are built: gold.leads from the staging table of gold.lead_quality_current."""
GRADE = "gold/macros/grade.sql"
INSERT_DAY = "gold/insert_into_gold_tables.sql"
REGISTER_APPOINTMENTS = "gold/register_appointments.sql"
TOUCH_LAST_SEEN = "gold/touch_last_seen.sql"
DELETE, MERGE = "gold/macros/delete.sql", "gold/macros/merge.sql"
METRICS = "gold/daily_metrics.toml"
"""Definitions of metrics. They are counted when a day is built, so all days are rebuilt after a change."""
COLUMNS = quote_identifiers(GOLD_COLUMNS)
"""The columns of a snapshot row that gold contains."""


def trimmed(column: str) -> sql.Composable:
    """Return SQL for a text column without surrounding blanks, NULL if nothing remains."""
    return sql.SQL("nullif(btrim({0}, {1}), '') as {0}").format(sql.Identifier(column), sql.Literal(BLANKS))


TRIMMED_COLUMNS = sql.SQL(", ").join(
    trimmed(name) if name in TRIMMED_IN_GOLD else sql.Identifier(name) for name in GOLD_COLUMNS
)
"""`COLUMNS` as selected from silver: those in `TRIMMED_IN_GOLD` are trimmed."""


def model_query(table: str, **names: sql.Composable) -> sql.Composable:
    """Return the query of a model, with its placeholders filled in.

    Args:
        names: SQL for placeholders that only this model has, such as `snapshot`.
    """
    return script_text(
        _script(table), columns=COLUMNS, trimmed_columns=TRIMMED_COLUMNS, grade=script_text(GRADE), **names
    )


def code_version(table: str) -> str:
    """Return a digest of the SQL that builds a table, and of the columns in it.

    Tables of leads are built together and share one digest.
    """
    if table == GOLD_MATCHING:
        return scripts_digest(
            GRADE, INSERT_DAY, _script(table), METRICS, also=(repr(TRIMMED_COLUMNS), *CLEANED_COLUMNS)
        )
    models = map(_script, (*AFFECTED, *MODELS))
    scripts = (GRADE, *models, REGISTER_APPOINTMENTS, TOUCH_LAST_SEEN, DELETE, MERGE)
    return scripts_digest(*scripts, also=(repr(TRIMMED_COLUMNS), repr(MODELS)))


def are_current(db: Cursor) -> bool:
    """Return whether all tables of leads are up to date: contents, matches, code and tables have not changed."""
    return [load.built_from for load in _current_loads(db)] == [current_version_loads(db)] * len(MODELS)


@retry_transient()
def build_models(settings: Settings, run_id: str) -> bool:
    """Build the rows of affected leads in staging tables, and assign ids to new appointments, in one transaction.

    If a table of leads was dropped or modified externally, or a model has changed, all leads are added to
    meta.affected_leads first. Returns False, without building, if all tables are up to date; else True.

    Raises:
        LockHeldError: see `fenced_transaction`.
    """
    with fenced_transaction(settings, run_id, filling=AFFECTED[-1]) as db:
        if are_current(db):
            return False
        if len(_current_loads(db)) < len(MODELS):
            add_all_leads(db)
        for table in AFFECTED:
            create_from_model(db, table)
        run_sql(db, REGISTER_APPOINTMENTS)
        for table in BUILD_ORDER:
            create_from_model(db, table)
    return True


def create_from_model(db: Cursor, table: str) -> None:
    """Build the staging table of a model, in place of an existing one."""
    staging = quote_identifier(_staging(table))
    build = "drop table if exists {0}; create table {0} as {1}; analyze {0}"
    db.execute(sql.SQL(build).format(staging, model_query(table)))


def merge_models(db: Cursor, run_id: str) -> None:
    """Merge the staging tables of all models into gold, in the transaction that publishes gold.

    Rows of affected leads that are not in staging are deleted. Of the other leads, only the last-seen dates are
    updated. The loads are recorded, the staging tables dropped, and meta.affected_leads emptied.

    Raises:
        PostgresError: see `acquire_exclusive_lock`.
    """
    db.execute(
        "select (select max(_partition_date)::text from silver.versioned_days), "
        "(select facts ->> 'latest_day' from meta.table_loads where table_name = 'gold.leads')"
    )
    latest_day, published_day = db.fetchone() or (None, None)
    run_sql(db, TOUCH_LAST_SEEN, published_day=sql.Literal(published_day))
    # Delete first: a deleted row may have a unique value that a new row needs.
    for table in reversed(MODELS):
        _run_macro(db, DELETE, table)
    built_from, metrics = current_version_loads(db), {"latest_day": latest_day}
    for table in MODELS:
        _run_macro(db, MERGE, table)
        db.execute(sql.SQL("select count(*) from {}").format(quote_identifier(table)))
        (rows,) = db.fetchone() or (0,)
        record_load(db, run_id, table, rows, built_from=built_from, code_version=code_version(table), metrics=metrics)
    staging = sql.SQL(", ").join(quote_identifier(_staging(table)) for table in (*MODELS, *AFFECTED))
    db.execute(sql.SQL("drop table {}").format(staging))
    empty_table(db, "meta.affected_leads")


def _run_macro(db: Cursor, macro: str, table: str) -> None:
    columns = table_columns(db, _staging(table))

    def listed(template: str) -> sql.Composable:
        return sql.SQL(", ").join(sql.SQL(template).format(sql.Identifier(name)) for name in columns)

    run_sql(
        db,
        macro,
        table=quote_identifier(table),
        staging=quote_identifier(_staging(table)),
        unique_key=sql.SQL(MODELS[table]),
        columns=listed("{}"),
        old_columns=listed("old.{}"),
        new_columns=listed("new.{}"),
        assignments=listed("{0} = new.{0}"),
    )


def _current_loads(db: Cursor) -> list[TableLoad]:
    """Return the loads of tables of leads that this version of the code built and nobody modified externally."""
    return [load for load in current_loads(db, *MODELS).values() if load.code_version == code_version(load.table)]


def _staging(table: str) -> str:
    return f"staging.{table.split('.')[1]}"


def _script(table: str) -> str:
    return f"gold/models/{table.split('.')[1]}.sql"
