-- Creates the table of applied migrations. Executed only if it does not exist: see etl/warehouse/migrations.py.

create schema if not exists meta;

-- Grain: one row per file of sql_scripts/meta/migrations/ that was applied to this warehouse.
create table meta.migrations (
    number int primary key,
    name text not null,
    applied_at timestamptz not null default clock_timestamp()
);
