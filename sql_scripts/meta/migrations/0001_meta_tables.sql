-- Load ledger and run history. Safe to rerun.

create schema if not exists meta;
create sequence if not exists meta.load_ids;

-- Grain: one row per run.
create table if not exists meta.pipeline_runs (
    run_id uuid primary key,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    status text not null default 'running',
    exit_code int,
    version text not null,
    arguments jsonb not null,
    steps jsonb,
    rows_per_table jsonb,
    checks jsonb,
    message text,
    constraint pipeline_runs_status check (status in ('running', 'complete', 'failed', 'refused', 'aborted'))
);

-- Add the column that the table of an earlier version lacks. Look first, because `alter table` waits for readers.
do $$
begin
    if not exists (select from pg_attribute where attrelid = 'meta.pipeline_runs'::regclass and attname = 'checks') then
        alter table meta.pipeline_runs add column checks jsonb;
    end if;
end
$$;

-- Grain: one row per S3 object that bronze contains. An object with the same key, ETag and size is not loaded again.
create table if not exists meta.ingested_files (
    s3_key text primary key,
    bucket text not null,
    etag text not null,
    size_bytes bigint not null,
    file_number int,
    partition_date date,
    table_name text not null,
    record_count bigint not null,
    bronze_rows bigint not null,
    rejected_lines bigint not null,
    run_id uuid not null,
    ingested_at timestamptz not null default clock_timestamp()
);

-- Grain: one row per table that a step fills as a whole (a day's table in a layer, the leads): its current load, and the loads
-- from which it was built. It is up to date if those are the current loads of its inputs, and if it was neither dropped nor
-- modified externally since.
create table if not exists meta.table_loads (
    table_name text primary key,
    parent_table text not null,
    partition_date date,
    file_number int,
    load_id bigint not null,
    built_from bigint[] not null,
    table_oid oid not null,
    changed boolean not null default false,
    row_count bigint not null,
    rejected_count bigint not null default 0,
    separator_count bigint not null default 0,
    facts jsonb not null default '{}',
    run_id uuid not null,
    loaded_at timestamptz not null default clock_timestamp()
);

-- Grain: one row per committed transaction of the current or latest run that has written something. If the connection is lost
-- during COMMIT, the marker shows whether the transaction was committed.
create table if not exists meta.commit_marks (
    mark uuid primary key
);

-- Grain: one row per DDL script (tables, views, comments) that was executed. It is executed again only if its text or its
-- objects have changed: executing it in every run would wait for readers of its views.
create table if not exists meta.definitions (
    script text primary key,
    digest text not null,
    state text not null
);

-- Called once for each statement that changes rows of a table. A table that was modified externally gets another load id and is
-- flagged, so that the next run fills it again. The pipeline records its own loads after their last statement.
create or replace function meta.note_change() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    update meta.table_loads set load_id = nextval('meta.load_ids'), changed = true
    where tg_table_schema || '.' || tg_table_name in (table_name, parent_table);
    return null;
end
$$;
