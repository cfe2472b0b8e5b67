-- Grain: one row per column of silver.stg_csv_snapshots, in order.
select
    attname as column_name,
    format_type(atttypid, atttypmod) as type_name
from pg_attribute
where attrelid = 'silver.stg_csv_snapshots'::regclass and attnum > 0 and not attisdropped
order by attnum;
