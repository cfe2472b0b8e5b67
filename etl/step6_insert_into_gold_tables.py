"""Step 6: silver → gold: match snapshot rows to backend leads, grade them, make out the tables of leads, publish.

A day is matched when its silver rows or the leads are another load than gold was made from. Days are built aside, in
parallel, and take their places together in one transaction: a reader sees the old gold or the new, never a mix.
The tables of leads are put right in the same transaction (see etl/utils/lead_tables.py). What it can write to them
before the days are there, it writes while they are built; it keeps readers out only at its end, for a moment.
Grain of gold.lead_quality_matching: one row per snapshot row and lead that it matches; one when it matches none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.day import Day
from etl.utils.day_tables import create_staged_day, lock_for_publishing, note_changes, publish_day
from etl.utils.errors import CheckFailedError
from etl.utils.lead_tables import KEYS, Work, carry_leads_on, make_out, put_right, work_to_do
from etl.utils.patience import patient
from etl.utils.run import RunContext, StepResult, begun_early, silently
from etl.utils.state import (
    GOLD_MATCHING,
    LEAD_LOOKUPS,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    TableLoad,
    current_loads,
    gold_day_table,
    hold_the_run,
    record_load,
    require_tables,
    staged_gold_day_table,
)
from etl.utils.transactions import count_rows, digest_of_scripts, run_sql, script_text, table_name, transaction
from etl.utils.utils_checks_db import GOLD_HAS_EVERY_ROW, LEADS_ARE_THE_BACKENDS, run_checks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.utils_connection import Settings

log = logging.getLogger(__name__)

Loads = Mapping[str, TableLoad]

LOOKUPS = ("staging.lead_keys", "staging.lead_pairs")
"""The tables in which the days look up their leads."""
MADE_BY = "gold/create_lead_lookups.sql"
DAYS_MADE_BY = ("gold/select_day.sql", "gold/insert_into_gold_tables.sql", MADE_BY)
"""A day that was matched by an earlier version of these is matched again."""


@dataclass(frozen=True)
class DayMatch:
    """A day of gold, built and not yet published."""

    day: Day
    rows: int
    built_from: tuple[int, ...]
    scenarios: Mapping[str, int]


def run(context: RunContext) -> StepResult:
    # --- which days gold has not, or has from another load ----------------------------------------
    silver, leads, gold = read_books(context.settings)
    if leads is None:
        raise CheckFailedError(
            f"{SILVER_LEADS} has not been loaded", hint="run from step 2: python main.py --from-step 2"
        )
    pending = [load for load in silver.values() if context.full_refresh or not _is_done(load, leads, gold)]

    # --- match and publish ------------------------------------------------------------------------
    work = work_to_do(context, silver, leads)
    if pending or work:
        make_lookups(context, leads)
    match = partial(match_day, context.settings, context.run_id, leads)
    publication = partial(publish, context.settings, context.run_id, work)
    matched: Sequence[DayMatch] = ()
    if pending or work:
        with context.meanwhile(match, pending, rows=lambda day: day.rows) as days, begun_early(publication) as complete:
            if work:
                make_out(replace(context, progress=silently), work)  # the days' progress is shown
            matched = days()
            complete(matched)
    _, _, published = read_books(context.settings)

    # --- what came of it --------------------------------------------------------------------------
    totals = {name: sum(load.facts[name] for load in published.values()) for name in _SCENARIOS}
    return StepResult(
        rows_in=sum(load.row_count for load in pending),
        rows_out=sum(match.rows for match in matched),
        facts={"days": {"published": len(matched)}, "matched": totals},
    )


@patient()
def read_books(settings: Settings) -> tuple[Loads, TableLoad | None, Loads]:
    """The days of silver, the leads, the days of gold."""
    with transaction(settings) as db:
        require_tables(db, SILVER_SNAPSHOTS, SILVER_LEADS, made_by=1)
        require_tables(db, GOLD_MATCHING, made_by=5)
        leads = current_loads(db, SILVER_LEADS, as_they_stand=True).get(SILVER_LEADS)
        return current_loads(db, SILVER_SNAPSHOTS, as_they_stand=True), leads, current_loads(db, GOLD_MATCHING)


def _is_done(silver: TableLoad, leads: TableLoad, gold: Mapping[str, TableLoad]) -> bool:
    published = gold.get(gold_day_table(silver.day))
    return (
        published is not None
        and published.built_from == (silver.load_id, leads.load_id)
        and published.facts.get("definition") == digest_of_scripts(*DAYS_MADE_BY)
    )


@patient()
def make_lookups(context: RunContext, leads: TableLoad) -> None:
    """Make the tables in which the days look up their leads, unless they stand there from a run before."""
    with transaction(context.settings) as db:
        hold_the_run(db, context.run_id, filling=LEAD_LOOKUPS)
        definition = digest_of_scripts(MADE_BY)
        standing = current_loads(db, LEAD_LOOKUPS).values()
        of_these_leads = [
            load.table
            for load in standing
            if load.built_from == (leads.load_id,) and load.facts.get("definition") == definition
        ]
        if set(of_these_leads) == set(LOOKUPS) and not context.full_refresh:
            return
        db.execute("set local work_mem = '256MB'; set local maintenance_work_mem = '256MB'")
        run_sql(db, MADE_BY)
        for lookup in LOOKUPS:
            record_load(
                db,
                table=lookup,
                parent=LEAD_LOOKUPS,
                run_id=context.run_id,
                row_count=count_rows(db, lookup),
                built_from=[leads.load_id],
                facts={"definition": definition},
            )
            note_changes(db, lookup)


@patient()
def match_day(settings: Settings, run_id: str, leads: TableLoad, silver: TableLoad) -> DayMatch:
    """Build one day of gold aside, in one transaction."""
    day = silver.day
    staged = staged_gold_day_table(day)
    with transaction(settings) as db:
        hold_the_run(db, run_id, filling=staged)
        db.execute("set local work_mem = '256MB'")  # the lookups stay in memory, a million leads as well
        create_staged_day(db, GOLD_MATCHING, staged, str(day))
        rows = run_sql(
            db,
            "gold/insert_into_gold_tables.sql",
            target=table_name(staged),
            rows=script_text("gold/select_day.sql", partition_date=sql.Literal(day.date)),
            more=sql.SQL(""),
        )
        scenarios = _count_scenarios(db, table_name(staged))
    log.info("%s matched: %d rows", day, rows)
    return DayMatch(day, rows, (silver.load_id, leads.load_id), scenarios)


_SCENARIOS = {
    "both": "email_match and phone_match",
    "email_only": "email_match and not phone_match",
    "phone_only": "phone_match and not email_match",
    "none": "not email_match and not phone_match",
}


def _count_scenarios(db: Cursor, table: sql.Identifier) -> dict[str, int]:
    counts = sql.SQL(", ").join(sql.SQL(f"count(*) filter (where {condition})") for condition in _SCENARIOS.values())
    db.execute(sql.SQL("select {} from {}").format(counts, table))
    return dict(zip(_SCENARIOS, db.fetchone() or (), strict=True))


@patient()
def publish(
    settings: Settings, run_id: str, work: Work | None, made_out: Callable[[], Sequence[DayMatch]]
) -> Sequence[DayMatch]:
    """Put the days that were built aside in place of gold's, and the tables of leads right: all in one transaction.

    Args:
        made_out: waits for the days, and for what is made out aside of the tables of leads.
    """
    definition = digest_of_scripts(*DAYS_MADE_BY)
    if not work or not work.before:
        made_out()  # nothing can be written before: no transaction is kept open for it
    with transaction(settings) as db:
        db.execute("set transaction isolation level read committed")  # what is made out meanwhile shall be seen
        hold_the_run(db, run_id, filling=GOLD_MATCHING)
        if work:
            carry_leads_on(db, work)
        matched = made_out()
        if work:
            put_right(db, run_id, work, with_days=bool(matched))
        if matched:
            # All of gold: who has read one of its tables shall find the others as they were then.
            lock_for_publishing(db, GOLD_MATCHING, *KEYS)
        for match in matched:
            table = gold_day_table(match.day)
            publish_day(db, GOLD_MATCHING, staged_gold_day_table(match.day), table, str(match.day))
            record_load(
                db,
                table=table,
                parent=GOLD_MATCHING,
                run_id=run_id,
                row_count=match.rows,
                day=match.day,
                built_from=match.built_from,
                facts={"definition": definition, **match.scenarios},
            )
        run_checks(db, [GOLD_HAS_EVERY_ROW, LEADS_ARE_THE_BACKENDS])
    return matched


if __name__ == "__main__":
    from etl.pipeline import run_alone

    raise SystemExit(run_alone(6))
