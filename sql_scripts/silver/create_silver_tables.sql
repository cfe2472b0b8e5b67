-- Silver: cleaned and typed. Safe to rerun.
-- Tables are created with text columns: apply_silver_types.sql declares their types, and step 4 applies them. Only the partition
-- key, whose type cannot be altered, and the hash, which is no text, have theirs from the start.

-- Grain: one row per CRM lead and snapshot day. Its partitions are the daily tables silver.stg_csv_data_01, _02, …
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
    _row_hash bigint
) partition by list (_partition_date);

comment on table silver.stg_csv_snapshots is
'The CRM''s daily snapshots, cleaned and typed: one row per CRM lead and snapshot day. Its partitions are the daily tables '
'silver.stg_csv_data_01, _02 and on.';
comment on column silver.stg_csv_snapshots.entry_date is 'Day on which the lead was entered in the CRM; NULL when it is no date.';
comment on column silver.stg_csv_snapshots.lead_number is 'Number of the lead in the CRM.';
comment on column silver.stg_csv_snapshots.email_hash is 'Hash of the lead''s e-mail address, as it came.';
comment on column silver.stg_csv_snapshots.phone_hash is 'Hash of the lead''s phone number, as it came.';
comment on column silver.stg_csv_snapshots.city is 'City, as it came: padding stays.';
comment on column silver.stg_csv_snapshots.state is
'USPS code of a state, the District of Columbia or a territory, from the location where the row has no valid one; else NULL.';
comment on column silver.stg_csv_snapshots.zip is 'Five digits; a ZIP+4 is cut to them; NULL when it is no ZIP code.';
comment on column silver.stg_csv_snapshots.appt_date is
'Day of the appointment, at midnight; NULL when there is none or it is no date.';
comment on column silver.stg_csv_snapshots.appt_time is 'Time of day of the appointment; NULL when the CRM has none.';
comment on column silver.stg_csv_snapshots.set is '1 when an appointment was set, else 0; NULL when the CRM says nothing.';
comment on column silver.stg_csv_snapshots.demo is '1 when a demo was given, else 0; NULL when the CRM says nothing.';
comment on column silver.stg_csv_snapshots.dispo is 'Disposition: what came of the lead.';
comment on column silver.stg_csv_snapshots.job_status is 'How far the job is that was sold.';
comment on column silver.stg_csv_snapshots.location is 'City and state in one; NULL in early files.';
comment on column silver.stg_csv_snapshots._extraction_date is 'Day on which the file was read from S3.';
comment on column silver.stg_csv_snapshots._partition_date is 'Day of the snapshot.';
comment on column silver.stg_csv_snapshots._row_hash is
'Content hash of the row, without entry_date and the days: the same lead number and the same hash mean the same content.';

-- Grain: one row per backend lead: the Source of Truth.
create table if not exists silver.stg_leads_parquet (
    lead_uuid text,
    phone_hash text,
    email_hash text,
    _extraction_date text
);

comment on table silver.stg_leads_parquet is
'The backend''s leads, the Source of Truth: one row per distinct lead_uuid, phone_hash and email_hash. None of the '
'three is NULL.';
comment on column silver.stg_leads_parquet.lead_uuid is 'Id of the lead in the backend.';
comment on column silver.stg_leads_parquet.phone_hash is 'Hash of the lead''s phone number, trimmed and in lower case.';
comment on column silver.stg_leads_parquet.email_hash is 'Hash of the lead''s e-mail address, trimmed and in lower case.';
comment on column silver.stg_leads_parquet._extraction_date is 'Day on which the file was read from S3.';

-- Grain: one row per record that a file had and silver has not, with the reason: nothing is lost.
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

comment on table silver.rejected_rows is
'Quarantine: one row per record that a file had and silver has not, with the reason. Nothing is lost.';
comment on column silver.rejected_rows.run_id is 'Run that rejected it: meta.pipeline_runs.';
comment on column silver.rejected_rows._source_file is 'S3 key of the file.';
comment on column silver.rejected_rows._source_row is 'Line of the file on which the record starts; for leads the row''s number.';
comment on column silver.rejected_rows._partition_date is 'Day of the snapshot; NULL for leads.';
comment on column silver.rejected_rows.step is '2: the record is no row of its file. 3: the row cannot be typed.';
comment on column silver.rejected_rows.reason is 'What is wrong with it.';
comment on column silver.rejected_rows.raw_row is 'The row''s cells by column, or the line''s text under the name line.';
comment on column silver.rejected_rows.rejected_at is 'When it was rejected.';

-- Modifications outside the pipeline are recorded, and repaired by the next run. Partitions have triggers of their own.
create or replace trigger note_change
after insert or update or delete or truncate on silver.stg_csv_snapshots
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on silver.stg_leads_parquet
for each statement execute function meta.note_change();
