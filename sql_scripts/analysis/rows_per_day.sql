-- Grain: one row per snapshot day: number of rows and distinct lead numbers in silver, and of rejected rows.
with clean as (
    select
        _partition_date,
        count(*) as row_count,
        count(distinct lead_number) as lead_number_count
    from silver.stg_csv_snapshots
    group by _partition_date
),

rejected as (
    select
        _partition_date,
        count(*) as rejected_count
    from silver.rejected_rows
    where _partition_date is not null
    group by _partition_date
)

select
    _partition_date,
    coalesce(clean.row_count, 0) as row_count,
    coalesce(clean.lead_number_count, 0) as lead_number_count,
    coalesce(rejected.rejected_count, 0) as rejected_count
from clean
full join rejected using (_partition_date)
order by _partition_date;
