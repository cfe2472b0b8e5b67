-- The leads as step 6 looks them up. Kept from run to run, until the leads change.
--
-- A key is a hash, trimmed and in lower case; an empty or NULL hash gives none.

drop table if exists staging.lead_keys;
drop table if exists staging.lead_pairs;

-- Grain: one row per row of silver.stg_leads_parquet. For rows of a snapshot that are not so simple: found by either key.
create table staging.lead_keys as
select
    lead_uuid,
    nullif(lower(btrim(email_hash, e' \t\n\r\f\x0b')), '') as email_key,
    nullif(lower(btrim(phone_hash, e' \t\n\r\f\x0b')), '') as phone_key
from silver.stg_leads_parquet;

create index lead_keys_by_email on staging.lead_keys (email_key);
create index lead_keys_by_phone on staging.lead_keys (phone_key);

-- Grain: one row per lead both of whose keys are its own alone. A snapshot row that has both matches this lead, on both,
-- and no other: nearly all rows do.
create table staging.lead_pairs as
with leads as (
    select
        *,
        count(*) over (partition by email_key) as email_leads,
        count(*) over (partition by phone_key) as phone_leads
    from staging.lead_keys
)

select
    email_key,
    phone_key,
    lead_uuid
from leads
where
    email_leads = 1
    and phone_leads = 1
    and email_key is not null
    and phone_key is not null
    and lead_uuid is not null;

-- So that the planner knows how many there are: what it would guess lets it look up row by row.
analyze staging.lead_keys (email_key, phone_key), staging.lead_pairs (email_key, phone_key);
