-- Grain: one row per snapshot day of bronze: number of rows, of values per column (without blanks and separators), of rows whose
-- Set is 1, and of rows whose Demo is 1.
select
    _partition_date,
    count(*) as row_count,
    {source_cells},
    count(*) filter (where lower(btrim("Set")) in ('1', '1.0', 'true')) as is_set,
    count(*) filter (where lower(btrim("Demo")) in ('1', '1.0', 'true')) as is_demo
from bronze.csv_snapshots
group by _partition_date
order by _partition_date;
