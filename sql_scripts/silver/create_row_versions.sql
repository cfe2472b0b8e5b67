-- Drops and creates the tables of row versions: the snapshots as a type 2 slowly changing dimension, and how their contents match
-- backend leads. Executed only after a change of this script or its tables; step 6 then fills the tables again, from silver.

drop table if exists silver.row_contents, silver.versioned_days, silver.version_matches, silver.matched_leads;

-- The table of an earlier release, and its entries in the load ledger.
drop table if exists silver.row_versions;
delete from meta.table_loads
where parent_table = 'silver.row_versions';

-- Grain: one row per content. Key: _row_hash. unnest(valid_during) returns its row versions. Column types are those of
-- silver.stg_csv_snapshots.
create table silver.row_contents as
select
    {columns}, -- noqa: RF02
    _row_hash
from silver.stg_csv_snapshots
with no data;

alter table silver.row_contents
add column valid_during datemultirange not null check (not isempty(valid_during)),
add primary key (_row_hash);

create index on silver.row_contents (lead_number); -- for --explain

-- Grain: one row per snapshot day from which silver.row_contents was built.
create table silver.versioned_days (
    _partition_date date primary key,
    _extraction_date date,
    load_id bigint not null
);

-- Grain: one row per content and matching row of silver.matched_leads; one row with NULL lead_uuid if none matches. No key.
create table silver.version_matches (
    _row_hash bigint not null,
    lead_uuid varchar(255),
    email_match boolean not null,
    phone_match boolean not null
);

create index on silver.version_matches (_row_hash); -- for --explain

-- Grain: one row per row of silver.stg_leads_parquet, as of the last matching: a copy, with which changed leads are compared.
create table silver.matched_leads (
    lead_uuid varchar(255) not null,
    email_key text,
    phone_key text
);

-- The form in which hashes are compared: trimmed, in lower case. NULL, which matches nothing, for NULL, empty text, null and n/a.
create or replace function silver.match_key(hash text) returns text
language sql immutable parallel safe
return nullif(nullif(nullif(lower(btrim(hash, {blanks})), ''), 'null'), 'n/a');
