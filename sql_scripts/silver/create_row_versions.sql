-- Row versions: the snapshots as a type 2 slowly changing dimension, and how their contents match backend leads.
-- Gold is built from them. Step 6 keeps them up to date; when this script changes, it builds them again from silver.
--
-- Content of a snapshot row: {columns}

drop table if exists silver.row_versions, silver.versioned_days, silver.version_matches, silver.matched_leads;

-- Grain: one row per content and uninterrupted range of snapshots. Column types are those of silver.stg_csv_snapshots.
-- Partitioned into open and closed versions, so that a new day costs the same after 20 and after 400 days.
create table silver.row_versions (
    like silver.stg_csv_snapshots including comments,
    valid_from date not null,
    valid_to date
) partition by list (valid_to);

alter table silver.row_versions
{not_content},
drop column _extraction_date,
drop column _partition_date,
alter column _row_hash set not null;

create table silver.row_versions_open partition of silver.row_versions for values in (null);
create table silver.row_versions_closed partition of silver.row_versions default;

comment on table silver.row_versions is
'Row versions (SCD type 2): one row per content of a snapshot row and uninterrupted range of snapshots that have it. '
'As of day d: valid_from <= d and (valid_to > d or valid_to is null).';
comment on column silver.row_versions.valid_from is 'Day of the first snapshot of the range.';
comment on column silver.row_versions.valid_to is
'Day of the first snapshot without the content (exclusive); NULL while the latest snapshot has it.';

-- Grain: one row per snapshot day that silver.row_versions was built from.
create table silver.versioned_days (
    _partition_date date primary key,
    _extraction_date date,
    load_id bigint not null
);

comment on table silver.versioned_days is 'The snapshot days that silver.row_versions was built from, one row per day.';
comment on column silver.versioned_days._partition_date is 'Day of the snapshot.';
comment on column silver.versioned_days._extraction_date is 'Day on which the file was read from S3.';
comment on column silver.versioned_days.load_id is 'Load of the day in silver: meta.table_loads.load_id.';

-- Grain: one row per content of silver.row_versions and matching row of silver.matched_leads; one with NULL lead_uuid when none
-- matches.
create table silver.version_matches (
    _row_hash bigint not null,
    lead_uuid varchar(255),
    email_match boolean not null,
    phone_match boolean not null
);

comment on table silver.version_matches is
'How the contents of silver.row_versions match backend leads: one row per content and matching lead; one with NULL lead_uuid '
'when none matches.';
comment on column silver.version_matches._row_hash is 'Content hash: silver.row_versions._row_hash.';
comment on column silver.version_matches.lead_uuid is 'Id of the lead in the backend; NULL when the content matches none.';
comment on column silver.version_matches.email_match is 'The e-mail hash is this lead''s. Never NULL.';
comment on column silver.version_matches.phone_match is 'The phone hash is this lead''s. Never NULL.';

-- Grain: one row per row of silver.stg_leads_parquet. A copy, so that a changed leads file can be compared with it.
create table silver.matched_leads (
    lead_uuid varchar(255) not null,
    email_key text,
    phone_key text
);

comment on table silver.matched_leads is
'The backend leads that silver.version_matches was built from: one row per row of silver.stg_leads_parquet.';
comment on column silver.matched_leads.lead_uuid is 'Id of the lead in the backend.';
comment on column silver.matched_leads.email_key is 'Hash of the e-mail address as it is matched: silver.match_key.';
comment on column silver.matched_leads.phone_key is 'Hash of the phone number as it is matched: silver.match_key.';

-- The one definition of how hashes are compared: trimmed, in lower case; an empty or NULL hash matches nothing.
create or replace function silver.match_key(hash text) returns text
language sql immutable parallel safe
return nullif(lower(btrim(hash, e' \t\n\r\f\x0b')), '');

comment on function silver.match_key(text) is 'A hash as it is matched: trimmed, in lower case, NULL when it is empty.';

-- Changes made outside the pipeline are recorded; the next run builds all of it again.
create trigger note_change
after insert or update or delete or truncate on silver.row_versions
for each statement execute function meta.note_change();
create trigger note_change
after insert or update or delete or truncate on silver.row_versions_open
for each statement execute function meta.note_change();
create trigger note_change
after insert or update or delete or truncate on silver.row_versions_closed
for each statement execute function meta.note_change();
create trigger note_change
after insert or update or delete or truncate on silver.versioned_days
for each statement execute function meta.note_change();
create trigger note_change
after insert or update or delete or truncate on silver.version_matches
for each statement execute function meta.note_change();
create trigger note_change
after insert or update or delete or truncate on silver.matched_leads
for each statement execute function meta.note_change();
