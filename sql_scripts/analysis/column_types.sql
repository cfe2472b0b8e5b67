-- Grain: one row per column of silver.stg_csv_snapshots and silver.stg_leads_parquet, by table and position.
select
    pg_class.relname as table_name,
    pg_attribute.attname as column_name,
    format_type(pg_attribute.atttypid, pg_attribute.atttypmod) as type_name
from pg_attribute
inner join pg_class on pg_attribute.attrelid = pg_class.oid
where
    pg_class.oid in ('silver.stg_csv_snapshots'::regclass, 'silver.stg_leads_parquet'::regclass)
    and pg_attribute.attnum > 0
    and not pg_attribute.attisdropped
order by pg_class.relname, pg_attribute.attnum;
