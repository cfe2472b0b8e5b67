-- Grain: one row per row of bronze on {days} that may be a row of the lead: what cleaning makes of it decides.
select
    {columns},
    _partition_date,
    _source_file,
    _source_row
from bronze.csv_snapshots
where _partition_date = any({days}) and ({condition})
order by _partition_date, _source_row
