"""Plan a run from the listing of S3 and the load ledger, without writing anything or taking the run lock.

The decisions are those of the steps: see etl/warehouse/pending.py. Files are not read, so a file that a run would
refuse because of its contents is planned as if it were loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from etl.engine.run_report import Step
from etl.engine.shutdown import raise_before_requests
from etl.utils.day import Day
from etl.utils.errors import CheckFailedError, DataRefusedError, listed
from etl.utils.retry import retry_transient
from etl.utils.s3_source import SourceObject, check_completeness, discover_snapshots, find_leads, refused_days
from etl.utils.utils_connection import Settings, s3_client
from etl.warehouse import gold_models, pending, row_versions
from etl.warehouse.load_ledger import current_loads, require_loaded, require_tables
from etl.warehouse.migrations import pending_migrations
from etl.warehouse.partitions import missing_columns
from etl.warehouse.silver_types import TYPED_TABLES, pending_type_changes
from etl.warehouse.sql_scripts import table_exists
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    GOLD_MATCHING,
    REJECTED_ROWS,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    SNAPSHOT_COLUMNS,
    bronze_partition,
    gold_partition,
)
from etl.warehouse.transactions import read_only_transaction

Work = dict[Day | None, str]
"""What a step would process → why. The key is a snapshot day, or None for the leads and, in step 6, their tables."""


class PlannedFile(NamedTuple):
    """A source file in S3, and whether a run would load it."""

    source: SourceObject
    day: Day | None
    """The day of a snapshot; None for the leads."""
    why: str | None
    """Why the run would load the file; None if it would not."""


@dataclass(frozen=True)
class SourceFiles:
    """The files that step 2 finds in S3; empty if the run does not include step 2."""

    files: Sequence[PlannedFile] = ()
    refused: Sequence[DataRefusedError] = ()
    """Files refused because of their names and, if MISSING_DAYS=refuse, missing and late days."""
    incomplete: Sequence[str] = ()
    """Missing and late days, one sentence per finding."""
    removed: Sequence[str] = ()
    """Files that bronze contains and S3 no longer lists, one sentence each."""


@dataclass(frozen=True)
class WarehouseState:
    """What each layer needs according to the load ledger. The defaults describe an empty database."""

    bronze: pending.BronzeState = field(default_factory=pending.BronzeState)
    clean: Work = field(default_factory=dict)
    publish: Work = field(default_factory=dict)
    """Cleaned days that step 4 has not published yet."""
    build: Work = field(default_factory=dict)
    removed_partitions: Sequence[str] = ()
    leads_are_matched: bool = True
    models_are_current: bool = True
    migrations: Sequence[str] = ()
    """Notes on migrations of schema meta that would be applied."""
    added_columns: Sequence[str] = ()
    """Notes on columns that would be added."""
    type_changes: Sequence[str] = ()
    """Notes on columns of silver whose types would be changed."""


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    source: SourceFiles
    work: Mapping[Step, Work]
    """Step → what it would process, for each step that would run."""
    notes: Sequence[str]
    """Further effects of the run, and facts about the source, one sentence each."""

    @property
    def exit_code(self) -> int:
        """2 if the run would refuse a file because of its name, or days because they are missing or late; else 0."""
        return DataRefusedError.exit_code if self.source.refused else 0

    @property
    def file_counts(self) -> dict[str, int]:
        """Numbers of source files: those to load, by reason, and the unchanged and refused ones."""
        reasons = [file.why for file in self.source.files]
        refused = sum(refusal.message not in self.source.incomplete for refusal in self.source.refused)
        loaded = {"new": 0, "changed": 0, "loaded again": 0} | pending.count_by_reason(reasons)
        return loaded | {"unchanged": reasons.count(None), "refused": refused}


@retry_transient()
def plan_run(
    settings: Settings, steps: Sequence[Step], *, full_refresh: bool = False, allow_partial: bool = False
) -> Plan:
    """Plan a run of these steps, with the options of `run_steps`.

    Raises:
        DataRefusedError: PARTITION_START_DATE or S3_SFTP_FILES_PREFIX has changed.
        CheckFailedError: a table is missing that none of the steps creates or fills, or silver.rejected_rows is missing
            although there is a load ledger; the load ledger is of an earlier version, which cannot be read; or the
            warehouse was upgraded by a newer version.
        SettingsError: see `s3_client`.
        SourceError: S3 cannot be read, or contains no snapshot or no leads.
        PostgresError: the warehouse cannot be read.
    """
    numbers = {step.number for step in steps}
    with read_only_transaction(settings) as db:
        _require_tables(db, numbers)
        state = _read_state(db, full_refresh=full_refresh)
    source = _list_source(settings, state.bronze, full_refresh=full_refresh) if 2 in numbers else SourceFiles()
    notes = [*state.migrations, *source.removed]
    if source.refused and not allow_partial and max(numbers) > 2:
        notes.append(
            "a run would end after step 2, because files or days are refused: --allow-partial publishes the other days"
        )
        steps = [step for step in steps if step.number <= 2]
        numbers &= {1, 2}
    if 1 in numbers:
        notes += state.added_columns
    if 4 in numbers:
        notes += state.type_changes
    work: dict[int, Work] = {2: {file.day: file.why for file in source.files if file.why}}
    work[3] = _merge(dict.fromkeys(work[2], "loaded in step 2"), state.clean) if 3 in numbers else {}
    work[4] = state.publish | {day: "cleaned in step 3" for day in work[3] if day}
    published = work[4] if 4 in numbers else {}
    work[6] = _merge(dict.fromkeys(published, "published in step 4"), state.build)
    if None in work[3] or not state.leads_are_matched:
        work[6][None] = "cleaned leads are not matched yet; days whose matches change are rebuilt, too"
    elif not (work[6] or state.models_are_current):
        work[6][None] = f"tables of leads were {pending.MODIFIED}, or their SQL has changed"
    if 6 in numbers:
        returning = set(map(gold_partition, published))
        removed = [table for table in state.removed_partitions if table not in returning]
        notes += [f"{table} would be dropped: silver no longer has its day" for table in removed]
    return Plan(source, {step: work.get(step.number, {}) for step in steps}, notes)


def _require_tables(db: Cursor, numbers: Set[int]) -> None:
    """Raise the error with which a step would fail because an earlier step has not created or filled its tables."""
    if 1 not in numbers and numbers & {2, 3, 4, 6}:
        require_tables(db, BRONZE_SNAPSHOTS, BRONZE_LEADS, SILVER_SNAPSHOTS, REJECTED_ROWS, created_by_step=1)
    if 5 not in numbers and 6 in numbers:
        require_tables(db, GOLD_MATCHING, *gold_models.MODELS, created_by_step=5)
    if 6 in numbers and not numbers & {3, 4}:
        require_loaded(db)


def _read_state(db: Cursor, *, full_refresh: bool) -> WarehouseState:
    if not table_exists(db, "meta.table_loads"):  # the first run creates it
        return WarehouseState()
    migrations = pending_migrations(db)
    if any(migration <= FIRST_READABLE for migration in migrations):
        raise CheckFailedError(
            "an earlier version of the pipeline has filled this warehouse, and its load ledger lacks the migrations "
            f"{listed(migrations)}",
            hint="rerun without --dry-run: the run upgrades the ledger, and rebuilds silver and gold from bronze",
        )
    require_tables(db, REJECTED_ROWS, created_by_step=1)
    silver = current_loads(db, SILVER_SNAPSHOTS, include_modified=True)
    type_changes = pending_type_changes(db, TYPED_TABLES) if silver else []
    leads = current_loads(db, SILVER_LEADS, include_modified=True).get(SILVER_LEADS)
    cleaned, gold = pending.cleaned_loads(db), current_loads(db, GOLD_MATCHING)
    bronze = current_loads(db, BRONZE_SNAPSHOTS, BRONZE_LEADS).values()
    why_clean = {load.of_day: pending.why_clean(load, cleaned, full_refresh=full_refresh) for load in bronze}
    why_build = {load.day: pending.why_build(load, gold, full_refresh=full_refresh) for load in silver.values()}
    if are_damaged := row_versions.are_damaged(db):
        reason = f"row versions or matches were {pending.MODIFIED}, or their SQL has changed"
        why_build = dict.fromkeys(why_build, reason)
    return WarehouseState(
        bronze=pending.BronzeState.read(db),
        clean={day: why for day, why in why_clean.items() if why},
        publish=dict.fromkeys((load.day for load in pending.waiting_days(db).values()), "cleaned by an earlier run"),
        build={day: why for day, why in why_build.items() if why},
        removed_partitions=pending.removed_partitions(db, [load.day for load in silver.values()]),
        leads_are_matched=not leads or are_damaged or row_versions.are_matched(db, leads),
        models_are_current=gold_models.are_current(db),
        migrations=[f"schema meta: migration {migration} would be applied" for migration in migrations],
        added_columns=[
            f"{table}: column {column} would be added, and all days of the table loaded again"
            for table, column, _ in missing_columns(db, SNAPSHOT_COLUMNS)
        ],
        type_changes=[f"{change.table} would be altered: {change.columns}" for change in type_changes],
    )


FIRST_READABLE = "0002_code_version"
"""The migration that added the newest column of the load ledger: before it is applied, the ledger cannot be read."""


def _list_source(settings: Settings, bronze: pending.BronzeState, *, full_refresh: bool) -> SourceFiles:
    client = raise_before_requests(s3_client(settings))
    snapshots, refused, days, keys, missing = discover_snapshots(client, settings)
    leads = find_leads(client, settings)
    bronze.check_calendar(snapshots)
    incomplete = check_completeness(days, missing, settings)
    files = [PlannedFile(file, file.day, bronze.why_load(file, full_refresh=full_refresh)) for file in snapshots]
    files.append(PlannedFile(leads, None, bronze.why_load(leads, full_refresh=full_refresh)))
    replaced = {bronze_partition(file.day) if file.day else BRONZE_LEADS for file in files if file.why}
    removed = bronze.describe_removed(keys | {leads.key}, replaced)
    return SourceFiles(files, [*refused, *refused_days(incomplete, settings)], incomplete, removed)


def _merge(first: Work, second: Work) -> Work:
    """Return the work of both, in this order. What both contain has the reason of the first."""
    return first | {key: why for key, why in second.items() if key not in first}
