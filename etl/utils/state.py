"""The pipeline's books in schema `meta`: which files were loaded, and which tables were made from which loads.

They are written in the transaction that fills the table, so they cannot disagree with it after a crash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from etl.utils.day import Day
from etl.utils.day_tables import lock_for_publishing
from etl.utils.errors import CheckFailedError, LockHeldError
from etl.utils.migrations import migrate
from etl.utils.source import SourceObject
from etl.utils.transactions import script_text

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

BRONZE_SNAPSHOTS = "bronze.csv_snapshots"
BRONZE_LEADS = "bronze.leads_parquet"
SILVER_SNAPSHOTS = "silver.stg_csv_snapshots"
SILVER_LEADS = "silver.stg_leads_parquet"
REJECTED_ROWS = "silver.rejected_rows"
GOLD_MATCHING = "gold.lead_quality_matching"
GOLD_LEADS = "gold.leads"
GOLD_CURRENT = "gold.lead_quality_current"
GOLD_APPOINTMENTS = "gold.appointments"
GOLD_HISTORY = "gold.lead_status_history"
CLEANED_SNAPSHOTS = "staging.stg_csv_data"
"""Stands for the cleaned days that wait to be published."""
ROW_VERSIONS = "silver.row_versions"
VERSION_MATCHES = "silver.version_matches"
LAYERS = (
    BRONZE_SNAPSHOTS,
    BRONZE_LEADS,
    SILVER_SNAPSHOTS,
    SILVER_LEADS,
    GOLD_MATCHING,
    GOLD_LEADS,
    GOLD_CURRENT,
    GOLD_APPOINTMENTS,
    GOLD_HISTORY,
)


def bronze_day_table(day: Day) -> str:
    return f"partitions.csv_snapshots_{day.suffix}"


def staged_bronze_day_table(day: Day) -> str:
    """A day of bronze that is loaded and not yet judged."""
    return f"staging.csv_snapshots_{day.suffix}"


def staged_rejected_table(day: Day) -> str:
    """Rejected lines of a file that is not yet judged."""
    return f"staging.rejected_rows_{day.suffix}"


def cleaned_day_table(day: Day) -> str:
    """A cleaned day on its way from step 3 to step 4."""
    return f"staging.stg_csv_data_{day.suffix}"


def silver_day_table(day: Day) -> str:
    return f"silver.stg_csv_data_{day.suffix}"


def gold_day_table(day: Day) -> str:
    return f"partitions.lead_quality_matching_{day.suffix}"


def staged_gold_day_table(day: Day) -> str:
    """A day of gold, built aside on its way to its publication."""
    return f"staging.lead_quality_matching_{day.suffix}"


@dataclass(frozen=True)
class TableLoad:
    """What stands in one table: a row of meta.table_loads."""

    table: str
    parent: str
    load_id: int
    built_from: tuple[int, ...]
    row_count: int
    of_day: Day | None
    rejected_count: int = 0
    separator_count: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    changed: bool = False
    """By other hands, since it was loaded: the counts are not its own any more."""
    code_version: str | None = None
    """Digest of the code that built the table; None: built before versions were recorded."""

    @property
    def day(self) -> Day:
        """The day that this table holds: tables of leads have none."""
        if self.of_day is None:
            raise ValueError(f"{self.table} holds no single day")
        return self.of_day


def require_tables(db: Cursor, *tables: str, made_by: int) -> None:
    """Hold that an earlier step has made what this one works on.

    Raises:
        CheckFailedError: naming the tables that are not there, and the step that makes them.
    """
    db.execute("select name from unnest(%s) as name where to_regclass(name) is null", (list(tables),))
    missing = [name for (name,) in db.fetchall()]
    if missing:
        raise CheckFailedError(
            f"{', '.join(missing)}: not there yet",
            hint=f"step {made_by} makes it: python main.py --from-step {made_by}",
        )


def require_loaded(db: Cursor, *parents: str, loaded_by: int) -> None:
    """Raise when a table that the ledger has was dropped outside the pipeline.

    Raises:
        CheckFailedError: naming the tables, and the step that loads them again.
    """
    db.execute(
        "select table_name from meta.table_loads where parent_table = any(%s) "
        "and to_regclass(table_name) is distinct from table_oid order by 1",
        (list(parents),),
    )
    dropped = [name for (name,) in db.fetchall()]
    if dropped:
        raise CheckFailedError(
            f"{', '.join(dropped[:5])}{' …' * (len(dropped) > 5)}: dropped outside the pipeline",
            hint=f"step {loaded_by} loads it again: python main.py --from-step {loaded_by}. "
            "To remove a day for good, delete its rows from meta.table_loads, too",
        )


def current_loads(
    db: Cursor, parent: str, *, rejects_of_step: int | None = None, as_they_stand: bool = False
) -> dict[str, TableLoad]:
    """The tables that belong to `parent` and still hold what was loaded into them, by name.

    A table that was dropped or changed by other hands is not among them, so its step fills it again; nor is one some of
    whose rejected rows are gone from silver.rejected_rows.

    Args:
        rejects_of_step: the step that puts the table's rejected rows there.
        as_they_stand: with those that other hands have changed, for a step that works on them as they are.
    """
    db.execute(
        """
        select
            table_name, load_id, built_from, row_count, file_number, partition_date,
            rejected_count, separator_count, facts, changed, code_version
        from meta.table_loads
        where
            parent_table = %(parent)s
            and to_regclass(table_name) = table_oid
            and (%(as_they_stand)s or not changed)
            and (
                %(step)s::int is null
                or rejected_count = (
                    select count(*) from silver.rejected_rows
                    where step = %(step)s and _partition_date is not distinct from table_loads.partition_date
                )
            )
        order by file_number nulls first
        """,
        {"parent": parent, "step": rejects_of_step, "as_they_stand": as_they_stand},
    )
    return {
        table: TableLoad(
            table=table,
            parent=parent,
            load_id=load_id,
            built_from=tuple(built_from),
            row_count=row_count,
            of_day=Day(number, day) if number is not None else None,
            rejected_count=rejected,
            separator_count=separators,
            facts=facts,
            changed=changed,
            code_version=code_version,
        )
        for (
            table,
            load_id,
            built_from,
            row_count,
            number,
            day,
            rejected,
            separators,
            facts,
            changed,
            code_version,
        ) in db.fetchall()
    }


def record_load(
    db: Cursor,
    *,
    table: str,
    parent: str,
    run_id: str,
    row_count: int,
    day: Day | None = None,
    built_from: Iterable[int] = (),
    rejected_count: int = 0,
    separator_count: int = 0,
    facts: Mapping[str, Any] | None = None,
    code_version: str | None = None,
) -> None:
    """Write down that this transaction filled a table.

    Args:
        code_version: digest of the code that built the table.

    Raises:
        LockHeldError: the run has lost its lock, and another one has begun since: it must not write any more.
    """
    db.execute(
        """
        insert into meta.table_loads (
            table_name, parent_table, partition_date, file_number, load_id, built_from,
            table_oid, row_count, rejected_count, separator_count, facts, code_version, run_id
        )
        select
            %(table)s, %(parent)s, %(date)s, %(number)s, nextval('meta.load_ids'), %(built_from)s::bigint[],
            %(table)s::regclass, %(rows)s, %(rejected)s, %(separators)s, %(facts)s,
            %(code_version)s, %(run_id)s
        from meta.pipeline_runs
        where run_id = %(run_id)s and status = 'running'
        for share
        on conflict (table_name) do update set
            parent_table = excluded.parent_table,
            partition_date = excluded.partition_date,
            file_number = excluded.file_number,
            load_id = excluded.load_id,
            built_from = excluded.built_from,
            table_oid = excluded.table_oid,
            changed = false,
            row_count = excluded.row_count,
            rejected_count = excluded.rejected_count,
            separator_count = excluded.separator_count,
            facts = excluded.facts,
            code_version = excluded.code_version,
            run_id = excluded.run_id,
            loaded_at = clock_timestamp()
        """,
        {
            "table": table,
            "parent": parent,
            "date": day.date if day else None,
            "number": day.number if day else None,
            "built_from": list(built_from),
            "rows": row_count,
            "rejected": rejected_count,
            "separators": separator_count,
            "facts": json.dumps(facts or {}),
            "code_version": code_version,
            "run_id": run_id,
        },
    )
    if db.rowcount == 0:
        raise _lock_lost(run_id)


def hold_the_run(db: Cursor, run_id: str, *, filling: str) -> None:
    """Keep another run from beginning until this transaction ends: it works on tables that a run has to itself.

    Args:
        filling: the table that it fills. Who tries a second time, because a worker is believed dead, waits for the
            first transaction to end: as long as for any lock.

    Raises:
        LockHeldError: the run has lost its lock, and another one has begun since.
    """
    db.execute("select from meta.pipeline_runs where run_id = %s and status = 'running' for share", (run_id,))
    if db.rowcount == 0:
        raise _lock_lost(run_id)
    db.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", (_FILLING, filling))


_FILLING = int.from_bytes(b"FILL")
"""The advisory locks of tables that are being filled."""


def _lock_lost(run_id: str) -> LockHeldError:
    return LockHeldError(
        f"this run ({run_id}) lost its lock on the warehouse, and another one has taken over",
        hint="wait for that one to end: it does what this one has left",
    )


_OURS_IN_STAGING = (
    "^((csv_snapshots|rejected_rows|stg_csv_data|lead_quality_matching)_[0-9]+"
    "|leads|lead_quality_current|appointments|lead_status_history|affected_leads|affected_versions)$"
)


def clear_staging(db: Cursor) -> None:
    """Drop what a refused file or a killed run has left in staging. What waits for the next step is in the books."""
    db.execute(
        "select format('%%I.%%I', schemaname, tablename) from pg_tables where schemaname = 'staging' "
        "and tablename ~ %s and schemaname || '.' || tablename not in (select table_name from meta.table_loads)",
        (_OURS_IN_STAGING,),
    )
    for (quoted,) in db.fetchall():
        db.execute(sql.SQL(f"drop table {quoted}"))


def forget_load(db: Cursor, table: str) -> None:
    """Strike a table out of the books: it is gone, or its rows moved on."""
    db.execute("delete from meta.table_loads where table_name = %s", (table,))


# --- definitions ----------------------------------------------------------------------------------


def define(db: Cursor, script: str, **names: sql.Composable) -> None:
    """Carry out a script of definitions (tables, views, comments), unless all that it makes is as it left it.

    Carried out at each run, it would wait for whoever reads its views; and what waits keeps others waiting.

    Raises:
        PostgresError: see `lock_for_publishing`.
    """
    text = script_text(script, **names).as_string(db)
    digest = hashlib.sha256(text.encode()).hexdigest()
    objects = [name.replace('"', "") for name in _MADE.findall(text)]
    made = " ".join([script, *objects[:1]])
    db.execute("select digest, state from meta.definitions where script = %s", (made,))
    if db.fetchone() == (digest, _state_of(db, objects)):
        return
    db.execute(
        "select schemaname || '.' || viewname from pg_views where schemaname || '.' || viewname = any(%s::text[])",
        (objects,),
    )
    for (view,) in db.fetchall():
        lock_for_publishing(db, view)
    db.execute(text)
    db.execute(
        "insert into meta.definitions (script, digest, state) values (%s, %s, %s) "
        "on conflict (script) do update set digest = excluded.digest, state = excluded.state",
        (made, digest, _state_of(db, objects)),
    )


_MADE = re.compile(r"^create (?:or replace )?(?:table|view) (?:if not exists )?(\S+)", re.MULTILINE)


def _state_of(db: Cursor, objects: list[str]) -> str:
    """By which tables and views are known to be as they were made: not dropped, replaced, rid of triggers or keys."""
    db.execute(
        """
        select md5(string_agg(
            concat_ws(
                ' ',
                name,
                oid,
                case when relkind = 'v' then pg_get_viewdef(oid) end,
                (select string_agg(tgname || tgenabled::text, ' ' order by tgname) from pg_trigger
                where tgrelid = pg_class.oid and not tgisinternal),
                (select string_agg(conname, ' ' order by conname) from pg_constraint
                where conrelid = pg_class.oid and contype <> 'f')
            ),
            ' ' order by name
        ))
        from unnest(%s::text[]) as name
        left join pg_class on oid = to_regclass(name)
        """,
        (objects,),
    )
    (state,) = db.fetchone() or ("",)
    return str(state)


# --- source files ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class IngestedFile:
    """The version of a source file that stands in bronze: a row of meta.ingested_files."""

    source: SourceObject
    table: str
    partition_date: date | None


def ingested_files(db: Cursor) -> dict[str, IngestedFile]:
    """All source files that stand in bronze, by S3 key."""
    db.execute("select bucket, s3_key, etag, size_bytes, table_name, partition_date from meta.ingested_files")
    return {
        key: IngestedFile(SourceObject(bucket, key, etag, size), table, day)
        for bucket, key, etag, size, table, day in db.fetchall()
    }


def source_key(db: Cursor, table: str) -> str:
    """The S3 key of the file that a table of bronze was loaded from."""
    db.execute("select s3_key from meta.ingested_files where table_name = %s", (table,))
    (key,) = db.fetchone() or (table,)
    return str(key)


def record_file(
    db: Cursor,
    source: SourceObject,
    *,
    table: str,
    run_id: str,
    records: int,
    bronze_rows: int,
    rejected_lines: int,
    day: Day | None,
) -> None:
    """Write down that this transaction loaded a source file into bronze."""
    db.execute("delete from meta.ingested_files where table_name = %s or s3_key = %s", (table, source.key))
    db.execute(
        """
        insert into meta.ingested_files (
            s3_key, bucket, etag, size_bytes, file_number, partition_date, table_name,
            record_count, bronze_rows, rejected_lines, run_id
        )
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            source.key,
            source.bucket,
            source.etag,
            source.size,
            day.number if day else None,
            day.date if day else None,
            table,
            records,
            bronze_rows,
            rejected_lines,
            run_id,
        ),
    )


# --- runs -----------------------------------------------------------------------------------------


def begin_run(db: Cursor, run_id: str, version: str, arguments: Mapping[str, Any]) -> None:
    """Bring schema `meta` up to date, and enter a run.

    Only one run at a time holds the lock: another one that is still called running was killed.

    Raises:
        CheckFailedError: the warehouse was upgraded by a newer version (see `migrations.migrate`).
    """
    migrate(db)
    clear_staging(db)
    db.execute("delete from meta.commit_marks")
    db.execute(
        "update meta.pipeline_runs set status = 'aborted', ended_at = clock_timestamp(), message = 'killed' "
        "where status = 'running'"
    )
    db.execute(
        "insert into meta.pipeline_runs (run_id, version, arguments) values (%s, %s, %s)",
        (run_id, version, json.dumps(arguments)),
    )


def end_run(
    db: Cursor,
    run_id: str,
    *,
    status: str,
    exit_code: int,
    steps: Iterable[Mapping[str, Any]],
    rows_per_table: Mapping[str, int],
    findings: Iterable[str],
    message: str | None,
) -> None:
    """Enter how a run ended."""
    db.execute(
        """
        update meta.pipeline_runs
        set
            ended_at = clock_timestamp(),
            status = %s,
            exit_code = %s,
            steps = %s,
            rows_per_table = %s,
            checks = %s,
            message = %s
        where run_id = %s
        """,
        (
            status,
            exit_code,
            json.dumps(list(steps)),
            json.dumps(rows_per_table),
            json.dumps(list(findings)),
            message,
            run_id,
        ),
    )


def rows_per_table(db: Cursor) -> dict[str, int]:
    """The rows that stand in each table of the layers, as it was loaded."""
    db.execute("select parent_table, sum(row_count)::bigint from meta.table_loads group by parent_table")
    counts = dict(db.fetchall())
    return {table: counts.get(table, 0) for table in LAYERS}
