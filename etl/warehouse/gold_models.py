"""The tables of leads in gold: leads, lead_quality_current, appointments, lead_status_history.

Each is a model: a query in sql_scripts/gold/models/ over the row versions of affected leads. Its rows are built in
schema staging and merged into the table of the same name by the transaction that publishes gold: a full refresh is the
same with all leads affected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.columns import GOLD_COLUMNS
from etl.utils.day_tables import table_columns
from etl.utils.patience import patient
from etl.utils.run import RunContext
from etl.utils.state import (
    GOLD_APPOINTMENTS,
    GOLD_CURRENT,
    GOLD_HISTORY,
    GOLD_LEADS,
    TableLoad,
    current_loads,
    hold_the_run,
    record_load,
)
from etl.utils.transactions import count_rows, digest_of_scripts, run_sql, script_text, table_name, transaction
from etl.warehouse.row_versions import COLUMNS, add_all_leads, current_version_loads, set_for_bulk_work

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.utils_connection import Settings

GRADING = "gold/insert_into_gold_tables.sql"
AFFECTED_VERSIONS = "staging.affected_versions"
GOLD_COLUMN_LIST = sql.SQL(", ").join(map(sql.Identifier, GOLD_COLUMNS))


@dataclass(frozen=True)
class Model:
    """A table of leads in gold, and how it is built."""

    table: str
    unique_key: Sequence[str]
    graded: bool = False

    @property
    def staging(self) -> str:
        return self.table.replace("gold.", "staging.")

    @property
    def script(self) -> str:
        return f"gold/models/{self.table.removeprefix('gold.')}.sql"

    @property
    def code_version(self) -> str:
        return digest_of_scripts("gold/models/affected_versions.sql", self.script, GRADING)


LEADS = Model(GOLD_LEADS, ("lead_uuid",))
CURRENT = Model(GOLD_CURRENT, ("lead_uuid",), graded=True)
APPOINTMENTS = Model(GOLD_APPOINTMENTS, ("lead_uuid", "appointment_date"))
HISTORY = Model(GOLD_HISTORY, ("lead_uuid", "lead_number", "valid_from"))

MODELS = (LEADS, CURRENT, APPOINTMENTS, HISTORY)
"""Tables that others refer to come first."""
BUILT_TOGETHER = ((CURRENT, LEADS), (APPOINTMENTS,), (HISTORY,))
"""Models that are built one after the other, because the second reads the first; the groups are built in parallel."""


def _current_loads(db: Cursor) -> list[TableLoad]:
    """The tables of leads that nobody else has changed, and that this version of the code has built."""
    return [
        load
        for model in MODELS
        for load in current_loads(db, model.table).values()
        if load.code_version == model.code_version
    ]


def add_leads_of_damaged_tables(db: Cursor) -> None:
    """Add all leads to meta.affected_leads when a table was dropped or modified externally, or has a new model."""
    if len(_current_loads(db)) < len(MODELS):
        add_all_leads(db)


@patient()
def are_outdated(settings: Settings) -> bool:
    """Whether one of the tables was built from other versions and matches than there are now."""
    with transaction(settings) as db:
        built_from = [load.built_from for load in _current_loads(db)]
        return built_from != [current_version_loads(db)] * len(MODELS)


def build_models(context: RunContext) -> None:
    """Build the rows of all affected leads in schema staging."""
    stage_affected_versions(context.settings, context.run_id)
    context.for_each(partial(build_group, context.settings, context.run_id), BUILT_TOGETHER, rows=int)


@patient()
def stage_affected_versions(settings: Settings, run_id: str) -> None:
    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=AFFECTED_VERSIONS)
        set_for_bulk_work(db)
        select_affected_versions(db)


@patient()
def build_group(settings: Settings, run_id: str, models: Sequence[Model]) -> int:
    """Build some models, one after the other, in one transaction. Returns their rows."""
    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=models[0].staging)
        set_for_bulk_work(db)
        return sum([build(db, model) for model in models])


def select_affected_versions(db: Cursor) -> None:
    """Put the row versions of affected leads into schema staging, and give new appointments their ids."""
    db.execute("analyze meta.affected_leads")
    _create_as(db, AFFECTED_VERSIONS, script_text("gold/models/affected_versions.sql", columns=COLUMNS))
    run_sql(db, "gold/register_appointments.sql")


def build(db: Cursor, model: Model) -> int:
    """Build a model's rows of affected leads in its staging table. Returns the number of rows."""
    query = script_text(model.script, columns=GOLD_COLUMN_LIST)
    if not model.graded:
        return _create_as(db, model.staging, query)
    names = {"staging": table_name(model.staging), "table": table_name(model.table)}
    db.execute(sql.SQL("drop table if exists {staging}; create table {staging} (like {table})").format(**names))
    rows = run_sql(db, GRADING, target=names["staging"], columns=GOLD_COLUMN_LIST, rows=query)
    db.execute(sql.SQL("analyze {staging}").format(**names))
    return rows


def merge_models(db: Cursor, run_id: str, latest_day: str | None) -> None:
    """Merge what `build_models` has built into gold, in the transaction that publishes it."""
    set_for_bulk_work(db)
    _touch_last_seen(db, latest_day)
    for model in MODELS:
        _run_macro(db, "merge", model)
    for model in reversed(MODELS):
        _run_macro(db, "delete", model)
        db.execute(sql.SQL("drop table {}").format(table_name(model.staging)))
    db.execute(sql.SQL("drop table {}; truncate meta.affected_leads").format(table_name(AFFECTED_VERSIONS)))
    run_sql(db, "gold/create_references.sql")
    built_from = current_version_loads(db)
    for model in MODELS:
        record_load(
            db,
            table=model.table,
            parent=model.table,
            run_id=run_id,
            row_count=count_rows(db, model.table),
            built_from=built_from,
            code_version=model.code_version,
            facts={"latest_day": latest_day},
        )


def _touch_last_seen(db: Cursor, latest_day: str | None) -> None:
    """Leads that are not affected and were in the latest published snapshot are in the latest one, too."""
    db.execute("select facts ->> 'latest_day' from meta.table_loads where table_name = %s", (GOLD_LEADS,))
    (published_day,) = db.fetchone() or (None,)
    if published_day and latest_day:
        days = {"published_day": sql.Literal(published_day), "latest_day": sql.Literal(latest_day)}
        run_sql(db, "gold/touch_last_seen.sql", **days)


def _create_as(db: Cursor, table: str, query: sql.Composable) -> int:
    db.execute(sql.SQL("drop table if exists {0}; create table {0} as {1}").format(table_name(table), query))
    rows: int = db.rowcount
    db.execute(sql.SQL("analyze {}").format(table_name(table)))
    return rows


def _run_macro(db: Cursor, macro: str, model: Model) -> None:
    columns = table_columns(db, model.staging)

    def listed(prefix: str = "") -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(*filter(None, (prefix, column))) for column in columns)

    run_sql(
        db,
        f"gold/macros/{macro}.sql",
        table=table_name(model.table),
        staging=table_name(model.staging),
        unique_key=sql.SQL(" and ").join(map(_same, model.unique_key)),
        columns=listed(),
        old_columns=listed("old"),
        new_columns=listed("new"),
        assignments=sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(column), sql.Identifier("new", column)) for column in columns
        ),
    )


def _same(column: str) -> sql.Composable:
    same = "old.{0} is not distinct from new.{0}" if column == "lead_number" else "old.{0} = new.{0}"
    return sql.SQL(same).format(sql.Identifier(column))
