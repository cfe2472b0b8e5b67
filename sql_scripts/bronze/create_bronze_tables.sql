-- Bronze: raw rows as text. Safe to rerun.

-- Grain: one row per record of a CSV file. All source columns are text, exactly as in the file; an empty cell is NULL.
create table if not exists bronze.csv_snapshots (
    "ENTRYDATE" text,
    "LEADNUMBER" text,
    email_hash text,
    phone_hash text,
    "CITY" text,
    "STATE" text,
    "ZIP" text,
    "APPT_DATE" text,
    "Set" text,
    "Demo" text,
    "Dispo" text,
    "JOB_STATUS" text,
    location text,
    _extraction_date text,
    _partition_date text,
    _source_file text,
    _source_row bigint,
    _extra jsonb
) partition by list (_partition_date);

comment on table bronze.csv_snapshots is
'The CRM''s daily exports as they came: one row per record of a CSV file, separator rows included. All columns of the source are '
'text, exactly as in the file; an empty cell is NULL.';
comment on column bronze.csv_snapshots."ENTRYDATE" is 'Day on which the lead was entered in the CRM, as written there.';
comment on column bronze.csv_snapshots."LEADNUMBER" is 'Number of the lead in the CRM.';
comment on column bronze.csv_snapshots.email_hash is 'Hash of the lead''s e-mail address.';
comment on column bronze.csv_snapshots.phone_hash is 'Hash of the lead''s phone number.';
comment on column bronze.csv_snapshots."CITY" is 'City; in later files its column is called CityName.';
comment on column bronze.csv_snapshots."STATE" is 'State; empty in every row of some files, then location has it.';
comment on column bronze.csv_snapshots."ZIP" is 'ZIP code as text: its leading zeros are part of it.';
comment on column bronze.csv_snapshots."APPT_DATE" is 'Date and time of the appointment, as written in the CRM.';
comment on column bronze.csv_snapshots."Set" is 'Whether an appointment was set: 1 or 0.';
comment on column bronze.csv_snapshots."Demo" is 'Whether a demo was given: 1 or 0, in some files True or False.';
comment on column bronze.csv_snapshots."Dispo" is 'Disposition: what came of the lead.';
comment on column bronze.csv_snapshots."JOB_STATUS" is 'How far the job is that was sold.';
comment on column bronze.csv_snapshots.location is
'City and state in one, as in later files; NULL where the file has no such column.';
comment on column bronze.csv_snapshots._extraction_date is 'Day on which the file was read from S3.';
comment on column bronze.csv_snapshots._partition_date is 'Day of the snapshot: PARTITION_START_DATE + file number - 1.';
comment on column bronze.csv_snapshots._source_file is 'S3 key of the file.';
comment on column bronze.csv_snapshots._source_row is 'Line of the file on which the record starts; the header is line 1.';
comment on column bronze.csv_snapshots._extra is 'Columns that the file has and this table has not; NULL when there are none.';

-- Grain: one row per row of the backend's parquet, untransformed.
create table if not exists bronze.leads_parquet (
    "lead_UUID" text,
    phone_hash text,
    email_hash text,
    _extraction_date text
);

comment on table bronze.leads_parquet is
'The backend''s leads as they came, the Source of Truth: one row per row of the parquet.';
comment on column bronze.leads_parquet."lead_UUID" is 'Id of the lead in the backend.';
comment on column bronze.leads_parquet.phone_hash is 'Hash of the lead''s phone number.';
comment on column bronze.leads_parquet.email_hash is 'Hash of the lead''s e-mail address.';
comment on column bronze.leads_parquet._extraction_date is 'Day on which the file was read from S3.';

-- Modifications outside the pipeline are recorded, and repaired by the next run. Partitions have triggers of their own.
create or replace trigger note_change
after insert or update or delete or truncate on bronze.csv_snapshots
for each statement execute function meta.note_change();
create or replace trigger note_change
after insert or update or delete or truncate on bronze.leads_parquet
for each statement execute function meta.note_change();
