"""Decide what a run has to process, and why: files to load into bronze, days to clean, days of gold to build.

The steps act on these decisions; a dry run shows them (see etl/engine/dry_run.py). Each `why_…` function returns the
reason as a phrase, or None if there is nothing to do.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from psycopg2.extensions import cursor as Cursor

from etl.utils.day import Day
from etl.utils.errors import DataRefusedError
from etl.utils.s3_source import SnapshotFile, SourceObject
from etl.utils.utils_connection import PROJECT
from etl.warehouse import gold_models
from etl.warehouse.load_ledger import IngestedFile, TableLoad, current_loads, ingested_files
from etl.warehouse.partitions import table_columns
from etl.warehouse.sql_scripts import table_exists
from etl.warehouse.tables import (
    BRONZE_LEADS,
    BRONZE_SNAPSHOTS,
    CLEANED_SNAPSHOTS,
    GOLD_MATCHING,
    SILVER_LEADS,
    SILVER_SNAPSHOTS,
    bronze_partition,
    cleaned_partition,
    gold_partition,
    silver_partition,
)

FULL_REFRESH = "full refresh"
NEW, CHANGED = "new file", "changed file"
MODIFIED = "dropped or modified outside the pipeline"
CLEANING_CODE_CHANGED = "cleaning code has changed"
CLEANING_CODE = ("transform.py", "cell_rules.py", "columns.py", "frames.py")
"""The modules of etl/utils/ that determine the contents of cleaned rows."""


@dataclass(frozen=True)
class BronzeState:
    """The contents of bronze according to the load ledger: S3 key → loaded file, and table → its current load.

    `tables` lacks those that were dropped or modified outside the pipeline (see `current_loads`).
    """

    files: Mapping[str, IngestedFile] = field(default_factory=dict)
    tables: Mapping[str, TableLoad] = field(default_factory=dict)

    @classmethod
    def read(cls, db: Cursor) -> BronzeState:
        return cls(ingested_files(db), current_loads(db, BRONZE_SNAPSHOTS, BRONZE_LEADS, rejects_of_step=2))

    def why_load(self, source: SourceObject, *, full_refresh: bool) -> str | None:
        """Return why a source file has to be loaded into its table of bronze; None if it need not be loaded."""
        table = bronze_partition(source.day) if isinstance(source, SnapshotFile) else BRONZE_LEADS
        known = self.files.get(source.key)
        if known is None:
            return NEW
        if known.source.version != source.version:
            return CHANGED
        if known.table != table or table not in self.tables:
            return f"its table in bronze, or its rejected rows, were {MODIFIED}"
        return FULL_REFRESH if full_refresh else None

    def describe_removed(self, listed_keys: Set[str], replaced: Set[str]) -> list[str]:
        """Return one sentence for each file that S3 no longer lists, and whose table is not one of those `replaced`."""
        unlisted = [self.files[key] for key in sorted(self.files.keys() - listed_keys)]
        removed = (file.source for file in unlisted if file.table not in replaced)
        how = "until another file replaces them; to remove a snapshot day: sql_scripts/admin/remove_day.psql"
        return [f"{source} is no longer listed in S3: its rows are kept {how}" for source in removed]

    def describe_empty(self, files: Iterable[SnapshotFile]) -> tuple[dict[SnapshotFile, str], list[str]]:
        """Describe files without leads. Returns file → sentence if bronze lacks the day, and the other sentences."""
        without_leads, kept = {}, []
        for file in files:
            if bronze_partition(file.day) in self.tables:
                kept.append(f"{file} contains no leads: the rows loaded earlier for {file.day} are kept")
            else:
                without_leads[file] = f"{file} contains no leads: {file.day} has no data"
        return without_leads, kept

    def check_calendar(self, snapshots: Iterable[SnapshotFile]) -> None:
        """Raise if a file, its day or its number was loaded with another number or day.

        Raises:
            DataRefusedError: PARTITION_START_DATE or S3_SFTP_FILES_PREFIX has changed, so the tables would mix two
                calendars.
        """
        loaded_days = {file.table: file.partition_date for file in self.files.values()}
        loaded_tables = {file.partition_date: file.table for file in self.files.values()}
        for file in snapshots:
            known, table = self.files.get(file.key), bronze_partition(file.day)
            has_same_number = known is None or known.table == table
            before = known.partition_date if known else loaded_days.get(table)
            if has_same_number and before and before != file.day.date:
                raise DataRefusedError(
                    f"{file}: file number {file.day.number} was loaded as day {before}, but PARTITION_START_DATE now "
                    f"makes it {file.day}",
                    hint=f"set PARTITION_START_DATE to {before - timedelta(file.day.number - 1)}, as before; if the "
                    f"new one is intended, {_START_AGAIN}",
                )
            if not has_same_number or loaded_tables.get(file.day.date, table) != table:
                raise DataRefusedError(
                    f"{file} or its day, {file.day}, was loaded with another file number than {file.day.number}",
                    hint="set S3_SFTP_FILES_PREFIX and PARTITION_START_DATE as before; if the new ones are intended, "
                    f"{_START_AGAIN}",
                )


_START_AGAIN = "empty the warehouse with sql_scripts/schemas/drop_schemas.sql, then rerun"


def count_by_reason(reasons: Iterable[str | None]) -> dict[str, int]:
    """Count the files to load by reason (see `BronzeState.why_load`). "loaded again" is omitted if there are none."""
    counts = Counter(filter(None, reasons))
    new, changed = counts.pop(NEW, 0), counts.pop(CHANGED, 0)
    return {"new": new, "changed": changed} | ({"loaded again": counts.total()} if counts else {})


def cleaned_loads(db: Cursor) -> dict[str, TableLoad]:
    """Return table → current load of cleaned rows: the tables of silver, and the `waiting_days`."""
    return current_loads(db, SILVER_SNAPSHOTS, SILVER_LEADS, rejects_of_step=3) | waiting_days(db, rejects_of_step=3)


def waiting_days(db: Cursor, *, rejects_of_step: int | None = None) -> dict[str, TableLoad]:
    """Return table → load of the staged days that wait for step 4, without those with other columns than silver.

    Args:
        rejects_of_step: see `current_loads`.
    """
    columns = set(table_columns(db, SILVER_SNAPSHOTS)) if table_exists(db, SILVER_SNAPSHOTS) else set()
    loads = current_loads(db, CLEANED_SNAPSHOTS, rejects_of_step=rejects_of_step)
    return {table: load for table, load in loads.items() if set(table_columns(db, table)) == columns}


def why_clean(bronze: TableLoad, cleaned: Mapping[str, TableLoad], *, full_refresh: bool) -> str | None:
    """Return why a table of bronze has to be cleaned; None if it need not be cleaned.

    Args:
        cleaned: table → load of cleaned rows (see `cleaned_loads`).
    """
    if bronze.of_day:
        # The day that waits for step 4, else that of silver.
        latest = cleaned.get(cleaned_partition(bronze.of_day)) or cleaned.get(silver_partition(bronze.of_day))
    else:
        latest = cleaned.get(SILVER_LEADS)
    if latest is None:
        return f"not in silver, or {MODIFIED}"
    if latest.built_from != (bronze.load_id,):
        return "loaded into bronze again"
    if latest.code_version != cleaning_code_version():
        return CLEANING_CODE_CHANGED
    return FULL_REFRESH if full_refresh else None


@cache
def cleaning_code_version() -> str:
    """Return a digest of the modules in `CLEANING_CODE`, read as files, because importing them would import pandas."""
    folder = PROJECT / "etl" / "utils"
    text = "".join((folder / module).read_text(encoding="utf-8") for module in CLEANING_CODE)
    return hashlib.sha256(text.encode()).hexdigest()


def why_build(silver: TableLoad, gold: Mapping[str, TableLoad], *, full_refresh: bool) -> str | None:
    """Return why a day of gold.lead_quality_matching has to be built; None if it need not be built.

    Args:
        gold: partition of gold.lead_quality_matching → its current load.
    """
    built = gold.get(gold_partition(silver.day))
    if built is None:
        return f"not in gold, or {MODIFIED}"
    if built.code_version != gold_models.code_version(GOLD_MATCHING):
        return "SQL of gold has changed"
    if built.built_from != (silver.load_id,):
        return "silver or its matches have changed"
    return FULL_REFRESH if full_refresh else None


def removed_partitions(db: Cursor, silver_days: Iterable[Day]) -> list[str]:
    """Return the partitions of gold.lead_quality_matching whose days silver no longer contains.

    Partitions that users added are left out: their names differ from those of the pipeline.
    """
    db.execute(
        "select relnamespace::regnamespace || '.' || relname from pg_inherits "
        "inner join pg_class on pg_class.oid = inhrelid where inhparent = to_regclass(%s) "
        "and relname ~ '^lead_quality_matching_[0-9]+$'",
        (GOLD_MATCHING,),
    )
    return sorted({table for (table,) in db.fetchall()} - set(map(gold_partition, silver_days)))
