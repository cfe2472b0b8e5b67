-- Grain: one row per column that files have and bronze has not.
select
    extra.column_name,
    count(*) as row_count,
    min(snapshots._partition_date) as first_day,
    max(snapshots._partition_date) as last_day
from bronze.csv_snapshots as snapshots
cross join lateral jsonb_object_keys(snapshots._extra) as extra (column_name)
where snapshots._extra is not null
group by extra.column_name
order by first_day, extra.column_name;
