-- Grain: one row per content and day, for contents with the hashes {numbers} on {days}: the first row with that content.
select distinct on (_partition_date, _row_hash)
    _row_hash,
    {columns},
    count(*) over (partition by _partition_date, _row_hash) - 1 as same_content
from silver.stg_csv_snapshots
where _partition_date = any({days}::date[]) and _row_hash = any({numbers}::bigint[])
order by _partition_date, _row_hash, _source_row
