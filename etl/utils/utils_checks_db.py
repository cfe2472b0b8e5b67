"""Run data checks in the warehouse.

A failed check of severity `fail` raises an error, which rolls back the transaction. A failed check of severity `warn`
becomes a warning of the run. A check consists of a description and a query for failing rows. Most queries read only
the load ledger (schema meta): they take milliseconds, because it has one row per table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from etl.utils.errors import CheckFailedError


@dataclass(frozen=True)
class Check:
    """A condition on the tables, and the query that finds the rows that violate it."""

    severity: Literal["fail", "warn"]
    """The consequence if the check fails: the run fails, or reports a warning."""
    description: str
    failing_rows_sql: str
    """SQL query: one row per failing row, described in the column `sample`."""
    hint: str
    noun: str = "row"
    """What a row of the query stands for, for messages. Its plural ends in -s."""
    samples: int | None = 3
    """Number of failing rows that a message shows; None: all."""


def run_checks(db: Cursor, checks: Iterable[Check]) -> list[str]:
    """Run all checks. Returns the failures of severity `warn`, each with its number of failing rows, samples and hint.

    Raises:
        CheckFailedError: checks of severity `fail` failed. The message contains their numbers of failing rows, and
            samples.
    """
    failures = {check: failure for check in checks if (failure := _describe_failure(db, check))}
    if failed := [check for check in failures if check.severity == "fail"]:
        hints = dict.fromkeys(check.hint for check in failed)
        raise CheckFailedError(" · ".join(failures[check] for check in failed), hint="; ".join(hints))
    return [f"{failure} → {check.hint}" for check, failure in failures.items()]


def _describe_failure(db: Cursor, check: Check) -> str | None:
    db.execute(
        f"with found as ({check.failing_rows_sql}) "  # noqa: S608 - contains no values
        f"select (select count(*) from found), array(select sample::text from found limit {check.samples or 'all'})"
    )
    count, samples = db.fetchone() or (0, [])
    if not count:
        return None
    listed = "; ".join([*samples, "…"] if count > len(samples) else samples)
    return f"check failed for {count:,} {check.noun}{'s' * (count > 1)}: {check.description}. {listed}"


FILES_ARE_ACCOUNTED_FOR = Check(
    "fail",
    "every record of a file must be in bronze or in silver.rejected_rows",
    """
    select format('%s: %s records, %s rows, %s rejected', s3_key, record_count, bronze_rows, rejected_lines) as sample
    from meta.ingested_files
    where record_count <> bronze_rows + rejected_lines
    """,
    hint="this is a bug in the pipeline: report it and attach the file",
    noun="file",
)

LEADS_ARE_ACCOUNTED_FOR = replace(
    FILES_ARE_ACCOUNTED_FOR, failing_rows_sql=f"{FILES_ARE_ACCOUNTED_FOR.failing_rows_sql} and file_number is null"
)
"""The same check for the leads parquet only: wrong counts of a CSV file must not stop a run that will replace them."""

DAYS_ARE_RECONCILED = Check(
    "fail",
    "rows of bronze must equal rows of silver + rejected rows + dropped rows",
    """
    select format(
        '%s was loaded with %s rows: %s clean, %s rejected, %s separators, %s without an id, %s duplicates',
        bronze.table_name, bronze.row_count, cleaned.row_count, cleaned.rejected_count, cleaned.separator_count,
        coalesce(missing_id, 0), coalesce(duplicates, 0)
    ) as sample
    from meta.table_loads as cleaned
    inner join meta.table_loads as bronze on cleaned.built_from = array[bronze.load_id]
    cross join jsonb_to_record(cleaned.facts) as dropped (missing_id bigint, duplicates bigint)
    where
        bronze.parent_table in ('bronze.csv_snapshots', 'bronze.leads_parquet')
        and not (cleaned.changed or bronze.changed)
        and bronze.row_count
        <> cleaned.row_count + cleaned.rejected_count + cleaned.separator_count + coalesce(missing_id + duplicates, 0)
    """,
    hint="rerun with --full-refresh; if the check fails again, report a bug in the pipeline",
    noun="table",
)

REJECTED_ROWS_ARE_KEPT = Check(
    "fail",
    "silver.rejected_rows must have as many rows of each load as were rejected",
    """
    select format('%s: %s rejected, %s kept', table_name, rejected_count, kept) as sample
    from meta.table_loads
    cross join lateral (
        select count(*) as kept
        from silver.rejected_rows
        where
            -- `is not distinct from` could not use the index
            (_partition_date = partition_date or _partition_date is null and partition_date is null)
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
    hint="rejected rows were added or deleted outside the pipeline; to restore them: python main.py. "
    "Lines that step 2 rejected are read from S3 again: if S3 no longer has the file, remove the day with "
    "sql_scripts/admin/remove_day.psql",
    noun="table",
)

GOLD_HAS_EVERY_ROW = Check(
    "fail",
    "every row of silver must be in gold.lead_quality_matching",
    """
    select format('%s has %s rows, %s has %s', gold.table_name, gold.row_count, silver.table_name, silver.row_count)
        as sample
    from meta.table_loads as gold
    inner join meta.table_loads as silver on gold.built_from[1] = silver.load_id
    where
        gold.parent_table = 'gold.lead_quality_matching'
        and (
            gold.row_count < silver.row_count and not (gold.changed or silver.changed)
            or gold.row_count < (gold.facts ->> 'snapshot_rows')::bigint
        )
    """,
    hint="rerun with --full-refresh",
    noun="table",
)

LEADS_ARE_THE_BACKENDS = Check(
    "fail",
    "gold must contain each backend lead at most once, and no other leads",
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
    hint="rerun with --full-refresh",
    noun="table",
)

GOLD_IS_UP_TO_DATE = Check(
    "warn",
    "gold should be built from the current rows of bronze",
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
    hint="run the pending steps: python main.py. If a step refuses a file, its message says what to do",
    noun="table",
)

ROWS_MATCH_LEADS = Check(
    "warn",
    "at least a tenth of a day's rows should match a lead, and at least a tenth of its e-mail and of its phone hashes",
    """
    select distinct on (partition_date) format('%s: %s', partition_date, finding) as sample
    from meta.table_loads
    cross join lateral (
        select
            (facts ->> 'none')::bigint as unmatched,
            row_count - (facts ->> 'none')::bigint - (facts ->> 'phone_only')::bigint as by_email,
            row_count - (facts ->> 'none')::bigint - (facts ->> 'email_only')::bigint as by_phone,
            (facts ->> 'snapshot_rows')::bigint - (facts -> 'metrics' ->> 'email_hash_null_share')::bigint as emails,
            (facts ->> 'snapshot_rows')::bigint - (facts -> 'metrics' ->> 'phone_hash_null_share')::bigint as phones
    ) as counts
    cross join lateral (
        values
        (1, unmatched > 0.9 * row_count, format('%s of %s rows match no lead', unmatched, row_count)),
        (2, emails >= 50 and by_email < 0.1 * emails, format('%s matches by e-mail for %s hashes', by_email, emails)),
        (3, phones >= 50 and by_phone < 0.1 * phones, format('%s matches by phone for %s hashes', by_phone, phones))
    ) as matching (priority, is_low, finding)
    where parent_table = 'gold.lead_quality_matching' and is_low
    order by partition_date, priority
    """,
    hint="check that CRM and backend still hash e-mail addresses and phone numbers in the same way",
    noun="day",
)

HASHES_ARE_HASHED = Check(
    "warn",
    "hashes should not be plain e-mail addresses",
    """
    select format(
        '%s: %s of %s rows', partition_date, facts -> 'metrics' ->> 'plain_email_share', facts ->> 'snapshot_rows'
    ) as sample
    from meta.table_loads
    where
        parent_table = 'gold.lead_quality_matching'
        and (facts -> 'metrics' ->> 'plain_email_share')::bigint > 0
    order by partition_date
    """,
    hint="plain addresses are personal data and match no hash: have the CRM hash them and deliver these days again",
    noun="day",
)

LEADS_ARE_HASHED = replace(
    HASHES_ARE_HASHED,
    failing_rows_sql="""
    select lead_uuid as sample
    from silver.stg_leads_parquet
    where email_hash like '%@%' or phone_hash like '%@%'
    """,
    hint="plain addresses are personal data and match no hash: have the backend hash them",
    noun="lead",
)

SEPARATORS_ARE_FEW = Check(
    "warn",
    "a day should have at most one separator row: the one below the header",
    """
    select format('%s: %s rows with a cell of five dashes were dropped', partition_date, separator_count) as sample
    from meta.table_loads
    where parent_table = 'silver.stg_csv_snapshots' and separator_count > 1
    order by partition_date
    """,
    hint="if these rows are leads, request the file again, with empty cells instead of dashes",
    noun="day",
)

VALUES_SURVIVE_CLEANING = Check(
    "warn",
    "cleaning should turn at most 5 % of a column's values on a day into NULL",
    """
    select format(
        '%s of %s: %s of %s values are not valid, such as %s%s', column_name, partition_date, counts ->> 'nulled',
        counts ->> 'values', samples,
        case when day_first then '. The day comes first: day and month of other dates may be swapped' end
    ) as sample
    from meta.table_loads
    cross join jsonb_each(facts -> 'nulled') as nulled (column_name, counts)
    cross join lateral (
        select
            string_agg(value, ', ') as samples,
            bool_or(value ~ '(1[3-9]|2[0-9]|3[01])/(0?[1-9]|1[0-2])/[0-9]{4}') as day_first
        from jsonb_array_elements_text(counts -> 'samples') as value
    ) as invalid
    where
        parent_table = 'silver.stg_csv_snapshots'
        and (counts ->> 'nulled')::bigint > 0.05 * (counts ->> 'values')::bigint
    order by partition_date, column_name
    """,
    hint="bronze keeps the values as they are: request the file again, or add a rule to etl/utils/cell_rules.py",
    noun="case",
)


def _findings_of(table: str, fact: str = "findings") -> str:
    """Return a query for the findings that the load ledger has recorded with the current load of a table, as a fact."""
    return f"""
    select finding as sample
    from meta.table_loads
    cross join jsonb_array_elements_text(facts -> '{fact}') with ordinality as findings (finding, position)
    where table_name = '{table}'
    order by position
    """  # noqa: S608 - the name of a table


DAYS_ARE_AS_EXPECTED = Check(
    "warn",
    "each metric should be close to its expected value",
    _findings_of("gold.data_anomalies"),
    hint="do not trust figures that depend on these values: see gold.data_anomalies, and docs/observability.md for how "
    "to accept a change",
    noun="metric",
    samples=None,
)

ACCEPTED_CHANGES_ARE_OF_METRICS = Check(
    "warn",
    "each accepted change should name a metric of gold.daily_metrics",
    _findings_of("gold.data_anomalies", "unknown_metrics"),
    hint="correct or delete these rows of meta.accepted_changes: no day has this metric",
    noun="metric",
)

LEADS_ARE_COMPLETE = Check(
    "warn",
    "a leads file should not have considerably fewer leads than the one before",
    _findings_of("silver.stg_leads_parquet"),
    hint="check that the file is complete, and that its ids are filled",
    noun="file",
)

END_OF_RUN_CHECKS = (
    FILES_ARE_ACCOUNTED_FOR,
    DAYS_ARE_RECONCILED,
    REJECTED_ROWS_ARE_KEPT,
    GOLD_HAS_EVERY_ROW,
    LEADS_ARE_THE_BACKENDS,
    GOLD_IS_UP_TO_DATE,
    ROWS_MATCH_LEADS,
    HASHES_ARE_HASHED,
    SEPARATORS_ARE_FEW,
    VALUES_SURVIVE_CLEANING,
    DAYS_ARE_AS_EXPECTED,
    ACCEPTED_CHANGES_ARE_OF_METRICS,
    LEADS_ARE_COMPLETE,
)
"""The checks at the end of a run that has completed its steps, even if it has loaded nothing."""


def _ids_are_distinct(ids: str) -> Check:
    return Check(
        "warn",
        f"every {'pair ' * (',' in ids)}{ids} should belong to one backend lead",
        f"""
        select format('%s: %s leads', concat_ws(' ', {ids}), count(*)) as sample
        from silver.stg_leads_parquet
        group by {ids}
        having count(*) > 1
        order by count(*) desc, min(lead_uuid)
        """,  # noqa: S608 - names of columns
        hint="see these leads in silver.stg_leads_parquet; a row of the CRM matches all leads that share its hash",
        noun="value",
    )


LEADS_ARE_DISTINCT = tuple(map(_ids_are_distinct, ("lead_uuid", "email_hash", "phone_hash", "email_hash, phone_hash")))
"""Checks for ids that several leads share. The backend does not guarantee distinct ids, so such leads are kept."""
