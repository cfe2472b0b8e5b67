-- Declares the types of silver's columns. A column has the same type in every table.
--
-- Grain: one row per table of {tables} that has columns of another type than the declared one, in the order of {tables}.
-- `columns` describes the change; `statement` is the ALTER TABLE, which also alters all partitions. Step 3 executes it on tables
-- that it is about to fill, step 4 on all tables. Tables that do not exist, and declared columns that a table does not have, are
-- ignored.

with declared (column_name, data_type) as (
    values
    ('entry_date', 'date'),
    ('lead_number', 'int'),
    ('email_hash', 'varchar(255)'),
    ('phone_hash', 'varchar(255)'),
    ('city', 'varchar(100)'),
    ('state', 'char(2)'),
    ('zip', 'varchar(10)'),
    ('appt_date', 'timestamp'),
    ('appt_time', 'time'),
    ('set', 'int'),
    ('demo', 'int'),
    ('dispo', 'varchar(50)'),
    ('job_status', 'varchar(100)'),
    ('location', 'varchar(255)'),
    ('lead_uuid', 'varchar(255)'),
    ('_extraction_date', 'date'),
    ('_partition_date', 'date'), -- the partition key: PostgreSQL does not alter its type
    ('_row_hash', 'bigint'),
    ('_source_row', 'bigint')
),

compared as (
    select
        altered.position,
        altered.table_name,
        pg_attribute.attnum,
        pg_attribute.attname,
        declared.data_type,
        format_type(pg_attribute.atttypid, pg_attribute.atttypmod) as current_type,
        -- as PostgreSQL spells it: varchar(255) is character varying(255)
        regexp_replace(declared.data_type, '^[a-z ]+', format_type(declared_type.oid, null)) as full_data_type,
        -- An explicit cast would truncate a text that is too long; without it, PostgreSQL raises. All other types need the cast.
        case
            when current_type.typcategory = 'S' and declared_type.typcategory = 'S' then ''
            else
                format(' using %I::%s', pg_attribute.attname, coalesce(format_type(declared_type.oid, -1), declared.data_type))
        end as conversion
    from declared
    left join pg_type as declared_type on to_regtype(declared.data_type) = declared_type.oid
    inner join pg_attribute on declared.column_name = pg_attribute.attname and not pg_attribute.attisdropped
    inner join pg_type as current_type on pg_attribute.atttypid = current_type.oid
    inner join unnest({tables}::text[]) with ordinality as altered (table_name, position)
        on pg_attribute.attrelid = to_regclass(altered.table_name)
    -- For an index scan, because the planner may use only hash joins.
    where pg_attribute.attrelid = any(array(select to_regclass(named.name)::oid from unnest({tables}::text[]) as named (name)))
)

select
    table_name,
    string_agg(format('%s from %s to %s', attname, current_type, data_type), ', ' order by attnum) as columns,
    format(
        'alter table %s %s',
        table_name::regclass,
        string_agg(format('alter column %I type %s%s', attname, data_type, conversion), ', ' order by attnum)
    ) as statement
from compared
where current_type <> data_type and current_type is distinct from full_data_type
group by position, table_name
order by position
