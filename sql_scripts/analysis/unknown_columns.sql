-- Grain: one row per snapshot day and column that is in a file but not in bronze.csv_snapshots.
select distinct
    extra.column_name,
    snapshots._partition_date
from bronze.csv_snapshots as snapshots
cross join lateral jsonb_object_keys(snapshots._extra) as extra (column_name)
where snapshots._extra is not null
order by extra.column_name, snapshots._partition_date;
