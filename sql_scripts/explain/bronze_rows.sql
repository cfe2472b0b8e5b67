-- Grain: one row per row of bronze.csv_snapshots on {day} whose _source_row is one of {lines}.
select
    {columns},
    _source_file,
    _source_row
from bronze.csv_snapshots
where _partition_date = {day} and _source_row = any({lines}::bigint[])
