-- Silver: cleaned and typed. Safe to run again.

-- Grain: one row per CRM lead and snapshot day. Its partitions are the daily tables silver.stg_csv_data_01, _02, …
create table if not exists silver.stg_csv_snapshots (
    entry_date          date,
    lead_number         int,
    email_hash          varchar(255),
    phone_hash          varchar(255),
    city                varchar(100),
    state               char(2),
    zip                 varchar(10),
    appt_date           timestamp,
    appt_time           time,
    set                 int,
    demo                int,
    dispo               varchar(50),
    job_status          varchar(100),
    location            varchar(255),
    _extraction_date    date,
    _partition_date     date
) partition by list (_partition_date);

-- Grain: one row per backend lead: the Source of Truth.
create table if not exists silver.stg_leads_parquet (
    lead_uuid           varchar(255),
    phone_hash          varchar(255),
    email_hash          varchar(255),
    _extraction_date    date
);

-- Grain: one row per record that a file had and silver has not, with the reason: nothing is lost.
create table if not exists silver.rejected_rows (
    run_id              uuid not null,
    _source_file        text not null,
    _source_row         bigint not null,
    _partition_date     date,           -- NULL for leads
    step                int not null,   -- 2: no row of the file; 3: a row that cannot be typed
    reason              text not null,
    raw_row             jsonb not null,
    rejected_at         timestamptz not null default clock_timestamp()
);
create index if not exists rejected_rows_by_day on silver.rejected_rows (_partition_date);

-- Changes by other hands are noticed, and mended by the next run. Each partition has a trigger of its own besides.
create or replace trigger note_change
after insert or update or delete or truncate on silver.stg_csv_snapshots
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on silver.stg_leads_parquet
for each statement execute function meta.note_change();
