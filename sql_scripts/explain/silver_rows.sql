-- Grain: one row per content and day, for contents {hashes} on {days}: the first row with the content. same_content: number of
-- further rows of the day with the content. Only days whose silver was built from the current bronze: on other days, _source_row
-- may refer to another version of the file.
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
