-- Silver: cleaned and typed. Safe to rerun.
-- Snapshots and leads are created with text columns: apply_silver_types.sql declares their types, and steps 3 and 4 apply them.
-- Exceptions are _row_hash, _source_row, and the partition key, whose type cannot be altered.

-- Grain: one row per accepted row of a snapshot. Key, not enforced: _partition_date, _source_row. A lead number can be NULL, or
-- occur several times on a day. The partitions are the daily tables silver.stg_csv_data_01, _02, …
create table if not exists silver.stg_csv_snapshots (
    entry_date text,
    lead_number text,
    email_hash text,
    phone_hash text,
    city text,
    state text,
    zip text,
    appt_date text,
    appt_time text,
    set text,
    demo text,
    dispo text,
    job_status text,
    location text,
    _extraction_date text,
    _partition_date date,
    _row_hash bigint,
    _source_row bigint
) partition by list (_partition_date);

-- Grain: one row per distinct lead_uuid, phone_hash and email_hash of the backend, the source of truth. None of them is NULL.
create table if not exists silver.stg_leads_parquet (
    lead_uuid text,
    phone_hash text,
    email_hash text,
    _extraction_date text
);

-- Grain: one row per record that step 2 or 3 rejected. Separators, duplicate leads, and leads that lack an id are dropped.
create table if not exists silver.rejected_rows (
    run_id uuid not null,
    _source_file text not null,
    _source_row bigint not null,
    _partition_date date,
    step int not null,
    reason text not null,
    raw_row jsonb not null,
    rejected_at timestamptz not null default clock_timestamp()
);
create index if not exists rejected_rows_by_day on silver.rejected_rows (_partition_date);
