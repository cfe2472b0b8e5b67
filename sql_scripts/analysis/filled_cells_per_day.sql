-- Grain: one row per snapshot day of silver: number of rows, and of non-NULL values per column.
select
    _partition_date,
    count(*) as row_count,
    {filled_cells}
from silver.stg_csv_snapshots
group by _partition_date
order by _partition_date;
