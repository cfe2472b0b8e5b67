"""Checks against Postgres while data goes in. One that fails raises inside the transaction it guards: nothing is kept.

A check is a promise and a query for what breaks it. They ask the books (schema meta) where they can, so that all of
them together take milliseconds, however many rows there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from etl.utils.errors import CheckFailedError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a type, named as one

log = logging.getLogger(__name__)

SAMPLES = 3
"""So many cases are told in a message."""


class Severity(Enum):
    """What comes of a promise that does not hold."""

    FAIL = "fail"
    WARN = "warn"


@dataclass(frozen=True)
class Check:
    """A promise about the tables."""

    severity: Severity
    promise: str
    finds: str
    """SQL: a row for each case that breaks the promise, told in its column `sample`."""
    hint: str


@dataclass(frozen=True)
class Finding:
    """A promise that does not hold."""

    check: Check
    count: int
    samples: Sequence[str]

    def __str__(self) -> str:
        more = "; …" if self.count > len(self.samples) else ""
        return f"not so in {self.count:,} cases: {self.check.promise}. {'; '.join(self.samples)}{more}"


def run_checks(db: Cursor, checks: Iterable[Check]) -> list[Finding]:
    """Hold the tables to their promises. Returns what was found and is no fault; that is logged, too.

    Raises:
        CheckFailedError: a promise of severity `fail` does not hold; with the number of cases and some of them.
    """
    findings = [finding for check in checks if (finding := _finding(db, check))]
    failed = [finding for finding in findings if finding.check.severity is Severity.FAIL]
    for finding in findings:
        if finding not in failed:
            log.warning("%s → %s", finding, finding.check.hint)
    if failed:
        raise CheckFailedError(" · ".join(map(str, failed)), hint=failed[0].check.hint)
    return findings


def _finding(db: Cursor, check: Check) -> Finding | None:
    db.execute(
        f"with found as ({check.finds}) "  # noqa: S608 - no value of anyone's is in it
        f"select (select count(*) from found), array(select sample::text from found limit {SAMPLES})"
    )
    count, samples = db.fetchone() or (0, [])
    return Finding(check, count, samples) if count else None


FILES_ARE_ACCOUNTED_FOR = Check(
    Severity.FAIL,
    "each record of a file is in bronze or rejected",
    """
    select format('%s: %s records, %s rows, %s rejected', s3_key, record_count, bronze_rows, rejected_lines) as sample
    from meta.ingested_files
    where record_count <> bronze_rows + rejected_lines
    """,
    hint="this is a fault of the pipeline: nothing of the file was kept; report it with the file",
)

LEADS_ARE_ACCOUNTED_FOR = replace(
    FILES_ARE_ACCOUNTED_FOR, finds=f"{FILES_ARE_ACCOUNTED_FOR.finds} and file_number is null"
)
"""Of the parquet alone: what the books say of other files, this run may be about to mend."""

DAYS_ARE_RECONCILED = Check(
    Severity.FAIL,
    "bronze = silver + rejected + separators",
    """
    select format(
        '%s was loaded with %s rows: %s are clean, %s rejected, %s separators, %s lack an id, %s are doubled',
        bronze.table_name, bronze.row_count,
        made.row_count, made.rejected_count, made.separator_count, without_id, doubled
    ) as sample
    from meta.table_loads as made
    inner join meta.table_loads as bronze on made.built_from = array[bronze.load_id]
    cross join lateral (
        select
            coalesce((made.facts ->> 'missing_id')::bigint, 0) as without_id,
            coalesce((made.facts ->> 'duplicates')::bigint, 0) as doubled
    ) as dropped
    where
        bronze.parent_table in ('bronze.csv_snapshots', 'bronze.leads_parquet')
        and not (made.changed or bronze.changed)
        and bronze.row_count
        <> made.row_count + made.rejected_count + made.separator_count + without_id + doubled
    """,
    hint="rows were changed by other hands: load the day again with --full-refresh",
)

REJECTED_ROWS_ARE_KEPT = Check(
    Severity.FAIL,
    "what was rejected stands in silver.rejected_rows",
    """
    select format('%s: %s rejected, %s kept', table_name, rejected_count, kept) as sample
    from meta.table_loads
    cross join lateral (
        select count(*) as kept
        from silver.rejected_rows
        where
            _partition_date is not distinct from table_loads.partition_date
            and step = case when parent_table like 'bronze.%' then 2 else 3 end
    ) as rejected
    where
        parent_table in (
            'bronze.csv_snapshots', 'bronze.leads_parquet',
            'staging.stg_csv_data', 'silver.stg_csv_snapshots', 'silver.stg_leads_parquet'
        )
        and rejected_count <> kept
        -- a day that was cleaned again and waits for its types: the rejected rows are already those of its new load
        and (parent_table, partition_date) not in (
            select 'silver.stg_csv_snapshots', partition_date
            from meta.table_loads
            where parent_table = 'staging.stg_csv_data'
        )
    """,
    hint="rows were deleted by other hands: run again, the day is loaded again",
)

GOLD_HAS_EVERY_ROW = Check(
    Severity.FAIL,
    "each row of silver is in gold",
    """
    select format('%s has %s rows, %s has %s', gold.table_name, gold.row_count, silver.table_name, silver.row_count)
        as sample
    from meta.table_loads as gold
    inner join meta.table_loads as silver on gold.built_from[1] = silver.load_id
    where
        gold.parent_table = 'gold.lead_quality_matching'
        and not (gold.changed or silver.changed)
        and gold.row_count < silver.row_count
    """,
    hint="run again with --full-refresh",
)

LEADS_ARE_THE_BACKENDS = Check(
    Severity.FAIL,
    "gold has no leads but the backend's, each once",
    """
    select format('%s has %s rows, %s has %s', more.table_name, more.row_count, fewer.table_name, fewer.row_count)
        as sample
    from meta.table_loads as more
    inner join meta.table_loads as fewer
        on (more.table_name, fewer.table_name) in (
            ('gold.lead_quality_current', 'gold.leads'), ('gold.leads', 'silver.stg_leads_parquet')
        )
    where
        not (more.changed or fewer.changed)
        and more.row_count > fewer.row_count
        -- leads that were cleaned again and wait for step 6
        and (
            fewer.parent_table <> 'silver.stg_leads_parquet'
            or exists (
                select from meta.table_loads as matches
                where
                    matches.table_name = 'silver.version_matches'
                    and fewer.load_id = any(matches.built_from)
                    and matches.load_id = any(more.built_from)
            )
        )
    """,
    hint="run again with --full-refresh",
)

GOLD_IS_UP_TO_DATE = Check(
    Severity.WARN,
    "gold is made from what bronze holds",
    """
    select coalesce(bronze.partition_date::text, bronze.table_name) as sample
    from meta.table_loads as bronze
    left join meta.table_loads as silver on silver.built_from = array[bronze.load_id]
    left join meta.table_loads as gold
        on
            silver.load_id = any(gold.built_from)
            and gold.parent_table in ('gold.lead_quality_matching', 'silver.version_matches')
    where bronze.parent_table in ('bronze.csv_snapshots', 'bronze.leads_parquet') and gold.table_name is null
    order by bronze.file_number
    """,
    hint="carry out the steps that wait: python main.py",
)

ROWS_MATCH_LEADS = Check(
    Severity.WARN,
    "a tenth of a day's rows at least match a backend lead",
    """
    select format('%s: %s of %s rows match none', partition_date, facts ->> 'none', row_count) as sample
    from meta.table_loads
    where parent_table = 'gold.lead_quality_matching' and (facts ->> 'none')::bigint > 0.9 * row_count
    order by partition_date
    """,
    hint="has the hash of e-mails or phones changed on one side?",
)

BOOKS = (
    FILES_ARE_ACCOUNTED_FOR,
    DAYS_ARE_RECONCILED,
    REJECTED_ROWS_ARE_KEPT,
    GOLD_HAS_EVERY_ROW,
    LEADS_ARE_THE_BACKENDS,
    GOLD_IS_UP_TO_DATE,
    ROWS_MATCH_LEADS,
)
"""What every run ends with, whatever it has loaded."""


def _ids_are_distinct(ids: str) -> Check:
    return Check(
        Severity.WARN,
        f"each {ids} belongs to one backend lead",
        f"""
        select format('%s: %s leads', concat_ws(' ', {ids}), count(*)) as sample
        from silver.stg_leads_parquet
        group by {ids}
        having count(*) > 1
        order by count(*) desc, min(lead_uuid)
        """,  # noqa: S608 - names of columns
        hint="rows with it match all of these leads; see silver.stg_leads_parquet",
    )


LEADS_ARE_DISTINCT = tuple(map(_ids_are_distinct, ("lead_uuid", "email_hash", "phone_hash", "email_hash, phone_hash")))
"""The Source of Truth promises nothing of its ids: what is shared is reported, and kept."""
