-- Grain: one row per row of bronze on {days} that starts on one of the lines {numbers}.
select
    {columns},
    _partition_date::date as _partition_date,
    _source_file,
    _source_row
from bronze.csv_snapshots
where _partition_date = any({days}::date[]::text[]) and _source_row = any({numbers}::bigint[])
