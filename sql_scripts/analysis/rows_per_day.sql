-- Grain: one row per snapshot day: number of rows and distinct lead numbers in silver, and of rejected rows.
with rows as (
    select
        _partition_date,
        lead_number,
        false as is_rejected
    from silver.stg_csv_snapshots
    union all
    select
        _partition_date,
        null as lead_number,
        true as is_rejected
    from silver.rejected_rows
    where _partition_date is not null
)

select
    _partition_date,
    count(*) filter (where not is_rejected) as row_count,
    count(distinct lead_number) as lead_number_count,
    count(*) filter (where is_rejected) as rejected_count
from rows
group by _partition_date
order by _partition_date;
