"""The tables of leads in gold: leads, lead_quality_current, appointments, lead_status_history.

They follow from the days of silver and the leads, and from nothing else. What they shall hold is made out aside, from
spans: each distinct snapshot row once, with the first and the last day that has it (staging.spans: a tenth of the
rows). What differs from what they hold is put right in the transaction that publishes the days: readers see all of gold
old, or all of it new, and are never kept waiting for these tables.

Days that come after all others are added to the spans, and only leads of which they say something new are made out
again. That all other leads were seen once more is written while the days are still being matched: it takes as long.
Whatever else has changed, a day in the middle or the leads, all is made out again from silver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from etl.utils.day_tables import empty_table, lock_for_publishing, note_changes, table_columns
from etl.utils.patience import patient
from etl.utils.run import RunContext
from etl.utils.state import (
    GOLD_APPOINTMENTS,
    GOLD_CURRENT,
    GOLD_HISTORY,
    GOLD_LEADS,
    GOLD_MATCHING,
    LEAD_SPANS,
    SILVER_LEADS,
    TableLoad,
    current_loads,
    hold_the_run,
    record_load,
    require_tables,
)
from etl.utils.transactions import count_rows, digest_of_scripts, run_sql, script_text, table_name, transaction

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

    from etl.utils.utils_connection import Settings

KEYS = {
    GOLD_LEADS: ("lead_uuid",),
    GOLD_CURRENT: ("lead_uuid",),
    GOLD_APPOINTMENTS: ("lead_uuid", "appointment_date"),
    GOLD_HISTORY: ("lead_uuid", "lead_number", "valid_from"),
}
"""The tables, those first that others refer to, and by what their rows are known."""
MADE_TOGETHER = ((GOLD_CURRENT, GOLD_LEADS), (GOLD_APPOINTMENTS,), (GOLD_HISTORY,))
"""Made out at the same time; leads are made from lead_quality_current."""

CARRIED_ON = {GOLD_LEADS: "last_seen", GOLD_CURRENT: "_partition_date"}
"""The days that carry_leads_on.sql writes, before it is known what else there is to say of a lead."""

PIECES = range(4)
"""Of the spans, filled at the same time. More of them would read silver more often than they save."""
_PIECES = sql.Literal(len(PIECES))
OF_SPANS = sql.SQL(", appt_time, first_day")
"""What spans have that days of gold have not."""

SCRIPTS = (
    "create_spans",
    "select_spans",
    "create_touched_leads",
    "create_changed_spans",
    "take_out_spans",
    "put_in_spans",
    "create_touched_spans",
    "insert_into_gold_tables",
    "create_lead_lookups",
    "select_lead_quality_current",
    "select_leads",
    "select_appointments",
    "select_lead_status_history",
    "collect_differences",
    "delete_gone_rows",
    "carry_leads_on",
    "merge_rows_that_come",
)
"""What the tables hold hangs on these: where an earlier version made them, they are made out again."""

FULL_SCOPE = sql.SQL("true")
TOUCHED = sql.SQL("lead_uuid in (select lead_uuid from staging.touched_leads)")


@dataclass(frozen=True)
class Source:
    """What the tables are made from: the leads and all days of silver, in order."""

    leads: TableLoad
    days: Sequence[TableLoad]

    @property
    def built_from(self) -> tuple[int, ...]:
        return (self.leads.load_id, *(load.load_id for load in self.days))

    @property
    def last_day(self) -> date | None:
        return self.days[-1].day.date if self.days else None

    def made(self, load: TableLoad) -> bool:
        """Whether a table was made from this, and by this version."""
        return load.built_from == self.built_from and load.facts.get("definition") == definition()

    def without_new_days(self, loads: Sequence[TableLoad]) -> Source | None:
        """This without its last days, if that is what all spans and tables were made from: and the days are few."""
        if len(loads) != len(PIECES) + len(KEYS):
            return None
        before = Source(self.leads, self.days[: len(loads[0].built_from) - 1])
        new_days = len(self.days) - len(before.days)
        return before if all(map(before.made, loads)) and 0 < 2 * new_days <= len(before.days) else None


@dataclass(frozen=True)
class Work:
    """What is to be done for the tables."""

    source: Source
    has_spans: bool
    """They are made from this source already: by a run that came no further."""
    before: Source | None
    """What spans and tables are made from, when all that has come since are a few days after all others."""


def definition() -> str:
    return f"{len(PIECES)} {digest_of_scripts(*(f'gold/{name}.sql' for name in SCRIPTS))}"


# --- what they shall hold -------------------------------------------------------------------------


def work_to_do(context: RunContext, silver: Mapping[str, TableLoad], leads: TableLoad) -> Work | None:
    """Returns None when the tables are made from what stands in silver."""
    source = Source(leads, list(silver.values()))
    pieces, tables = read_books(context.settings)
    if context.full_refresh:
        return Work(source, has_spans=False, before=None)
    if len(tables) == len(KEYS) and all(map(source.made, tables)):
        return None
    has_spans = len(pieces) == len(PIECES) and all(map(source.made, pieces))
    return Work(source, has_spans, before=source.without_new_days([*pieces, *tables]))


def make_out(context: RunContext, work: Work) -> None:
    """Make out aside what the tables shall hold, and what differs from what they hold."""
    if work.before:
        add_days(context.settings, context.run_id, work.source, work.before)
    elif not work.has_spans:
        make_spans(context, work.source)
    compare = partial(collect_differences, context.settings, context.run_id, work)
    context.for_each(compare, MADE_TOGETHER, rows=int)


@patient()
def read_books(settings: Settings) -> tuple[list[TableLoad], list[TableLoad]]:
    """The pieces of the spans and the tables that hold what was loaded into them."""
    with transaction(settings) as db:
        require_tables(db, *KEYS, made_by=5)
        pieces = current_loads(db, LEAD_SPANS)
        tables = [load for table in KEYS for load in current_loads(db, table).values()]
        return list(pieces.values()), tables


@patient()
def carry_out(settings: Settings, run_id: str, script: str, **names: sql.Composable) -> None:
    """Carry out a script on its own."""
    with transaction(settings) as db:
        _begin_work(db, run_id, filling=script)
        run_sql(db, script, **names)


def make_spans(context: RunContext, source: Source) -> None:
    """Make the spans of all days anew."""
    carry_out(context.settings, context.run_id, "gold/create_spans.sql", pieces=_PIECES)
    context.for_each(partial(fill_piece, context.settings, context.run_id, source), PIECES, rows=int)
    carry_out(context.settings, context.run_id, "gold/analyze_spans.sql")


@patient()
def fill_piece(settings: Settings, run_id: str, source: Source, piece: int) -> int:
    """Returns the rows: none where they stand there already."""
    spans = _piece_table(piece)
    with transaction(settings) as db:
        _begin_work(db, run_id, filling=spans)
        if _is_filled(db, source, spans):
            return 0
        empty_table(db, spans)
        db.execute("set local enable_sort = off")  # the planner takes the rows of a piece for few; hashing is faster
        rows = run_sql(
            db,
            "gold/insert_into_gold_tables.sql",
            target=table_name(spans),
            rows=script_text(
                "gold/select_spans.sql",
                piece=sql.Literal(piece),
                pieces=_PIECES,
                last_day=sql.Literal(source.last_day),
            ),
            more=OF_SPANS,
        )
        note_changes(db, spans)
        _record_piece(db, run_id, source, spans, rows)
    return rows


@patient()
def add_days(settings: Settings, run_id: str, source: Source, before: Source) -> None:
    """Add the days that came after all others to the spans, and find out of which leads they say something new.

    In one transaction, so that the leads are known when the spans have the days. Tried again after a commit that was
    not heard of, it leaves both as they are.
    """
    with transaction(settings) as db:
        _begin_work(db, run_id, filling=LEAD_SPANS)
        if all(_is_filled(db, source, _piece_table(piece)) for piece in PIECES):
            return
        run_sql(db, "gold/create_touched_leads.sql")
        known = before.last_day
        for load in source.days[len(before.days) :]:
            day = load.day.date
            run_sql(db, "gold/create_changed_spans.sql", day=sql.Literal(day), day_before=sql.Literal(known))
            run_sql(db, "gold/take_out_spans.sql")
            run_sql(
                db,
                "gold/insert_into_gold_tables.sql",
                target=table_name("staging.matched_spans"),
                rows=sql.SQL("table staging.changed_spans"),
                more=OF_SPANS,
            )
            run_sql(db, "gold/put_in_spans.sql")
            known = day
        run_sql(db, "gold/create_touched_spans.sql")
        for piece in PIECES:
            spans = _piece_table(piece)
            _record_piece(db, run_id, source, spans, count_rows(db, spans))


@patient()
def collect_differences(settings: Settings, run_id: str, work: Work, tables: Sequence[str]) -> int:
    """Make out what the tables shall hold, and what differs from what they hold. Returns the rows."""
    scope = TOUCHED if work.before else FULL_SCOPE
    names = {
        "spans": table_name("staging.touched_spans" if work.before else LEAD_SPANS),
        "leads": table_name("staging.touched_leads" if work.before else SILVER_LEADS),
        "current": _aside("wanted", GOLD_CURRENT),
        "last_day": sql.Literal(work.source.last_day),
    }
    rows = 0
    with transaction(settings) as db:
        _begin_work(db, run_id, filling=tables[0])
        if work.before:
            _expect_few_leads(db)
        for table in tables:
            wanted = _aside("wanted", table)
            content = script_text(f"gold/select_{table.split('.')[1]}.sql", **names)
            db.execute(sql.SQL("drop table if exists {0}; create table {0} as {1}").format(wanted, content))
            rows += db.rowcount
            db.execute(sql.SQL("analyze {}").format(wanted))
            run_sql(
                db,
                "gold/collect_differences.sql",
                table=table_name(table),
                wanted=wanted,
                come=_aside("come", table),
                gone=_aside("gone", table),
                scope=scope,
                stays=_stays(table, work),
                columns=_listed(table_columns(db, wanted.as_string(db))),
                key=_listed(KEYS[table]),
            )
        for table in tables:
            db.execute(sql.SQL("drop table {}").format(_aside("wanted", table)))
    return rows


def _stays(table: str, work: Work) -> sql.Composable:
    """For which rows `carry_leads_on` leaves the table as it is. What the others shall hold comes in any case."""
    if not work.before or table not in CARRIED_ON:
        return FULL_SCOPE
    return sql.SQL("{} is distinct from {}").format(
        sql.Identifier(CARRIED_ON[table]), sql.Literal(work.before.last_day)
    )


# --- putting it right -----------------------------------------------------------------------------


def carry_leads_on(db: Cursor, work: Work) -> None:
    """Write that all leads of the latest snapshot were seen in the new one, too: `put_right` mends what is not so.

    For the transaction that publishes, as long as it waits for what is made out. Readers are not kept waiting.
    """
    if work.before:
        run_sql(
            db,
            "gold/carry_leads_on.sql",
            last_day=sql.Literal(work.source.last_day),
            day_before=sql.Literal(work.before.last_day),
        )


def put_right(db: Cursor, run_id: str, work: Work, *, with_days: bool) -> None:
    """Put right what differs, and write down what the tables hold now. `carry_leads_on` has gone before.

    Args:
        with_days: it is the transaction that publishes days, too, and will lock their table.
    """
    _prepare(db)
    if work.before:
        _expect_few_leads(db)
    is_first = _is_empty(db, GOLD_LEADS)
    if is_first:
        lock_for_publishing(db, *([GOLD_MATCHING] if with_days else []), *KEYS)
        run_sql(db, "gold/drop_references_to_leads.sql")
    for table in reversed(KEYS):
        names = {"table": table_name(table), "gone": _aside("gone", table), "same_key": _same_key(table, "gone")}
        run_sql(db, "gold/delete_gone_rows.sql", **names)
    for table in KEYS:
        come = _aside("come", table)
        columns = table_columns(db, come.as_string(db))
        run_sql(
            db,
            "gold/merge_rows_that_come.sql",
            table=table_name(table),
            come=come,
            same_key=_same_key(table, "new"),
            columns=_listed(columns),
            values=sql.SQL(", ").join(sql.Identifier("new", column) for column in columns),
            assignments=sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(column), sql.Identifier("new", column)) for column in columns
            ),
        )
        db.execute(sql.SQL("drop table {}, {}").format(come, _aside("gone", table)))
    if is_first:
        run_sql(db, "gold/create_references.sql")
    db.execute("drop table if exists staging.touched_leads, staging.touched_spans")
    for table in KEYS:
        record_load(
            db,
            table=table,
            parent=table,
            run_id=run_id,
            row_count=count_rows(db, table),
            built_from=work.source.built_from,
            facts={"definition": definition()} | _last_id(db, table),
        )


def _is_empty(db: Cursor, table: str) -> bool:
    db.execute(sql.SQL("select not exists (select from {})").format(table_name(table)))
    return db.fetchone() == (True,)


def _last_id(db: Cursor, table: str) -> dict[str, int]:
    """The highest id that an appointment ever had: it is not given again."""
    if table != GOLD_APPOINTMENTS:
        return {}
    db.execute(
        "select greatest(0, (select max(appointment_id) from gold.appointments), "
        "(select (facts ->> 'last_id')::int from meta.table_loads where table_name = %s))",
        (table,),
    )
    (last_id,) = db.fetchone() or (0,)
    return {"last_id": last_id}


# --- in common ------------------------------------------------------------------------------------


def _begin_work(db: Cursor, run_id: str, *, filling: str) -> None:
    hold_the_run(db, run_id, filling=filling)
    _prepare(db)


def _prepare(db: Cursor) -> None:
    """Settings for the statements of this room, until the transaction ends."""
    db.execute(
        "set local work_mem = '256MB'; "
        # A small sample says what the planner has to know, and takes a tenth of the time.
        "set local default_statistics_target = 10; "
        # It cannot know how few lead numbers have rivals, and would sort all of silver for them.
        "set local enable_mergejoin = off"
    )


def _expect_few_leads(db: Cursor) -> None:
    """Have those of which new days say something new looked up, instead of whole tables read for them."""
    db.execute("set local random_page_cost = 1.1")


def _piece_table(piece: int) -> str:
    return f"{LEAD_SPANS}_{piece}"


def _is_filled(db: Cursor, source: Source, spans: str) -> bool:
    """Whether a try before this one was committed: a worker of a cluster can die before it has said so."""
    return any(load.table == spans and source.made(load) for load in current_loads(db, LEAD_SPANS).values())


def _record_piece(db: Cursor, run_id: str, source: Source, spans: str, rows: int) -> None:
    record_load(
        db,
        table=spans,
        parent=LEAD_SPANS,
        run_id=run_id,
        row_count=rows,
        built_from=source.built_from,
        facts={"definition": definition()},
    )


def _aside(what: str, table: str) -> sql.Identifier:
    return sql.Identifier("staging", f"{what}_{table.split('.')[1]}")


def _listed(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _same_key(table: str, other: str) -> sql.Composable:
    first, *rest = KEYS[table]
    conditions = [sql.SQL("old.{0} = {1}.{0}").format(sql.Identifier(first), sql.Identifier(other))]
    conditions += [  # a lead number can be NULL
        sql.SQL("old.{0} is not distinct from {1}.{0}").format(sql.Identifier(column), sql.Identifier(other))
        for column in rest
    ]
    return sql.SQL(" and ").join(conditions)
