-- Bronze: raw rows as text. Safe to rerun.

-- Grain: one row per well-formed record of a CSV file. Key, not enforced: _partition_date, _source_row. All source columns are
-- text, exactly as in the file; an empty cell is NULL.
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

-- Grain: one row per accepted row of the backend's parquet file, as text. No key: rows can be duplicates.
create table if not exists bronze.leads_parquet (
    "lead_UUID" text,
    phone_hash text,
    email_hash text,
    _extraction_date text
);
