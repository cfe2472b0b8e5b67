-- Grain: one row per content and day, for contents with one of {hashes} on {days}: the first row with that content. Only days
-- whose silver was built from the current bronze: otherwise _source_row could point into another version of the file.
select distinct on (_partition_date, _row_hash)
    _row_hash,
    {columns},
    count(*) over (partition by _partition_date, _row_hash) - 1 as same_content
from silver.stg_csv_snapshots
where
    _partition_date = any({days}::date[])
    and _row_hash = any({hashes}::bigint[])
    and _partition_date in (
        select silver.partition_date
        from meta.table_loads as silver
        inner join meta.table_loads as bronze on silver.built_from = array[bronze.load_id]
        where silver.parent_table = 'silver.stg_csv_snapshots' and not silver.changed and not bronze.changed
    )
order by _partition_date, _row_hash, _source_row
