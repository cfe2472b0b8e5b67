-- Grain: one row per kind of id or hash: number of values, of values that occur in more than one row, and of these rows.
with cells as (
    select
        'lead number on a day' as kind,
        format('%s %s', _partition_date, lead_number) as key
    from silver.stg_csv_snapshots
    where lead_number is not null
    union all
    select
        ids.kind,
        ids.key
    from silver.stg_leads_parquet as leads
    cross join lateral (
        values
        ('lead_uuid', leads.lead_uuid),
        ('email_hash of leads', leads.email_hash),
        ('phone_hash of leads', leads.phone_hash),
        ('both hashes of leads', leads.email_hash || ' ' || leads.phone_hash)
    ) as ids (kind, key)
),

counted as (
    select
        kind,
        key,
        count(*) as row_count
    from cells
    group by kind, key
)

select
    kind,
    count(*) as value_count,
    count(*) filter (where row_count > 1) as duplicated_value_count,
    coalesce(sum(row_count) filter (where row_count > 1), 0)::bigint as row_count
from counted
group by kind
order by kind;
