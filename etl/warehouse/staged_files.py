"""CSV files that were copied to staging tables: their row counts, and whether they are accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from etl.utils.columns import BLANK_ROW, FOOTER
from etl.utils.day import Day
from etl.utils.errors import DataRefusedError
from etl.utils.s3_source import SnapshotFile
from etl.utils.utils_connection import Settings
from etl.warehouse.load_ledger import TableLoad
from etl.warehouse.pending import BronzeState
from etl.warehouse.rejected_rows import MOST_FOOTERS, describe_first, describe_reasons

if TYPE_CHECKING:
    from etl.utils.extract import SourceRows

ROWS_FOR_GROWTH = 50
"""Minimum number of valid rows of a file to which MAX_ROW_GROWTH applies."""


class DayCounts(NamedTuple):
    """The counts of a snapshot with which the next one is compared."""

    valid_rows: int = 0
    """Number of rows that step 3 accepts."""
    distinct: int = 0
    """Number of distinct lead numbers; 0 if the version of the pipeline that loaded the day did not count them."""
    repeated: int = 0
    """Number of lead numbers that occur more than once."""

    @classmethod
    def of(cls, load: TableLoad) -> DayCounts:
        """Return the counts of a load of bronze. Earlier versions of the pipeline did not record all of them."""
        metrics = {"valid_rows": load.row_count - load.separator_count} | dict(load.metrics)
        return cls(*(metrics.get(name, 0) for name in cls._fields))

    @property
    def repeated_share(self) -> float:
        """Share of the distinct lead numbers that occur more than once, 0 to 1; 0 if there are no lead numbers."""
        return self.repeated / max(self.distinct, 1)


@dataclass(frozen=True)
class StagedFile:
    """The row counts of a CSV file that was copied to its staging table, or the reason why the file was refused."""

    file: SnapshotFile
    records: int = 0
    rows: int = 0
    rejected_lines: Counter[str] = field(default_factory=Counter)
    """Number of rejected lines by reason."""
    invalid_rows: Counter[str] = field(default_factory=Counter)
    """Number of `rows` that step 3 would reject, by reason."""
    separators: int = 0
    """Number of `rows` that step 3 would drop as separators."""
    counts: DayCounts = field(default_factory=DayCounts)
    first_fault: str = ""
    """A rejected line or invalid row, with its reason, as an example for messages; empty if there is none."""
    refused: DataRefusedError | None = None

    @property
    def faults(self) -> Counter[str]:
        """Number of rejected lines and invalid rows by reason, as far as MAX_REJECT_RATIO applies: without blank rows,
        unless they outnumber the valid rows; without totals and footers, unless they are more than `MOST_FOOTERS`."""
        reasons = self.rejected_lines + self.invalid_rows
        if not 0 < self.counts.valid_rows < reasons[BLANK_ROW]:
            del reasons[BLANK_ROW]
        if reasons[FOOTER] <= MOST_FOOTERS:
            del reasons[FOOTER]
        return reasons

    @property
    def is_empty(self) -> bool:
        """Whether the file is not refused, and all its records are separators, blank rows or a few footers."""
        return not (self.refused or self.counts.valid_rows or self.faults)

    def with_chunk(self, chunk: SourceRows) -> StagedFile:
        from etl.utils.transform import invalid_rows

        invalid, separators = invalid_rows(chunk.rows)
        valid = self.counts.valid_rows + len(chunk.rows) - len(invalid) - separators
        return replace(
            self,
            records=self.records + chunk.records,
            rows=self.rows + len(chunk.rows),
            rejected_lines=self.rejected_lines + Counter(line.reason for line in chunk.rejected),
            invalid_rows=self.invalid_rows + Counter(invalid["reason"]),
            separators=self.separators + separators,
            counts=self.counts._replace(valid_rows=valid),
            first_fault=self.first_fault or describe_first(chunk.rejected, invalid),
        )


def validate_files(staged: Iterable[StagedFile], bronze: BronzeState, settings: Settings) -> list[StagedFile]:
    """Refuse files with too many invalid records, or that differ too much from the snapshot before (specification §7).

    Returns all files in the order of their days. A refused file has the reason in `refused`. The limits do not apply
    to a file that bronze already contains in this version: one of them may have been raised for a single run.
    """
    days = {load.of_day: DayCounts.of(load) for load in bronze.tables.values() if load.of_day}
    accepted = {file.source.version for file in bronze.files.values()}
    validated = []
    for file in sorted(staged, key=lambda staged: staged.file.day):
        refused = file.refused
        if file.file.version not in accepted:
            refused = refused or _too_many_rejects(file, settings) or _too_different(file, days, settings)
        if not (refused or file.is_empty):
            days[file.file.day] = file.counts
        validated.append(replace(file, refused=refused))
    return validated


def _too_many_rejects(file: StagedFile, settings: Settings) -> DataRefusedError | None:
    reasons = file.faults
    rejects, records = reasons.total(), file.separators + file.counts.valid_rows + reasons.total()
    if rejects <= settings.max_reject_ratio * records:
        return None
    ignored = f"; without {file.records - records:,} blank rows and footers" if file.records > records else ""
    return DataRefusedError(
        f"{file.file}: {rejects:,} of its {records:,} records ({rejects / records:.2%}{ignored}) cannot be "
        f"loaded, more than MAX_REJECT_RATIO={settings.max_reject_ratio:g}: {describe_reasons(reasons)}. "
        f"For example, {file.first_fault}",
        hint="request the file again"
        + " or, to load its other records, raise MAX_REJECT_RATIO above this share" * (file.counts.valid_rows > 0),
    )


def _too_different(file: StagedFile, days: Mapping[Day, DayCounts], settings: Settings) -> DataRefusedError | None:
    """Return the refusal of a file that differs too much from the latest snapshot before it, else None."""
    day = max((day for day in days if day < file.file.day), default=None)
    if day is None or file.is_empty:
        return None
    before, rows, rows_before = days[day], file.counts.valid_rows, days[day].valid_rows
    if rows < (1 - settings.max_row_drop) * rows_before:
        return DataRefusedError(
            f"{file.file}: {rows:,} valid rows, down from {rows_before:,} on {day}: a decrease of "
            f"{1 - rows / rows_before:.2%}, more than MAX_ROW_DROP={settings.max_row_drop:g}",
            hint="request the complete file; if it is correct, raise MAX_ROW_DROP above this decrease for this run",
        )
    share, share_before = file.counts.repeated_share, before.repeated_share
    if share > settings.max_repeated_leads >= share_before:
        return DataRefusedError(
            f"{file.file}: {file.counts.repeated:,} of {file.counts.distinct:,} lead numbers ({share:.2%}) "
            f"occur more than once, more than MAX_REPEATED_LEADS={settings.max_repeated_leads:g}; on {day}, "
            f"{share_before:.2%} did. The file probably contains its rows several times, or several snapshots",
            hint="request it again, with one row per lead; if it is correct, set MAX_REPEATED_LEADS=1 for this run",
        )
    if rows_before and rows >= ROWS_FOR_GROWTH and rows > (1 + settings.max_row_growth) * rows_before:
        return DataRefusedError(
            f"{file.file}: {rows:,} valid rows, up from {rows_before:,} on {day}: more than "
            f"MAX_ROW_GROWTH={settings.max_row_growth:g} allows",
            hint="if the file contains earlier snapshots, too, request the file again; if it is correct, raise "
            "MAX_ROW_GROWTH for this run (1: twice as many rows)",
        )
    return None
