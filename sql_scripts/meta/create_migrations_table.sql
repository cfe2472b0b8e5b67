-- Creates the table of applied migrations. Safe to rerun.

create schema if not exists meta;

-- Grain: one row per file of sql_scripts/meta/migrations/ that was applied to this warehouse.
create table if not exists meta.migrations (
    number int primary key,
    name text not null,
    applied_at timestamptz not null default clock_timestamp()
);
