-- Grain: one row. Number of distinct values per column of silver.stg_csv_snapshots.
select {distinct_values}
from silver.stg_csv_snapshots;
