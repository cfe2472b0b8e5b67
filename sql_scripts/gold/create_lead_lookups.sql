-- The leads as step 6 looks them up: by e-mail key and by phone key. Made anew for each run, gone when gold is published.
--
-- A key is a hash, trimmed and in lower case; an empty or NULL hash has none. Grain: one row per key. A key of one lead has
-- `lead` and `lead_uuid`; a key that several leads share has `leads` and `lead_uuids` instead. `lead` numbers the rows of
-- silver.stg_leads_parquet, since nothing says that a lead_uuid stands there only once.

drop table if exists staging.lead_keys, staging.leads_by_email, staging.leads_by_phone;

create table staging.lead_keys as
select
    row_number() over ()::int as lead,
    lead_uuid,
    nullif(lower(btrim(email_hash, e' \t\n\r\f\x0b')), '') as email_key,
    nullif(lower(btrim(phone_hash, e' \t\n\r\f\x0b')), '') as phone_key
from silver.stg_leads_parquet;

create table staging.leads_by_email as
with keys as (
    select email_key, count(*) as lead_count, min(lead) as lead, min(lead_uuid) as lead_uuid
    from staging.lead_keys
    where email_key is not null
    group by email_key
),

shared as (
    select email_key, array_agg(lead) as leads, array_agg(lead_uuid) as lead_uuids
    from staging.lead_keys
    where email_key in (select email_key from keys where lead_count > 1)
    group by email_key
)

select
    email_key,
    case when lead_count = 1 then lead end as lead,
    case when lead_count = 1 then lead_uuid end as lead_uuid,
    leads,
    lead_uuids
from keys
left join shared using (email_key);

create table staging.leads_by_phone as
with keys as (
    select phone_key, count(*) as lead_count, min(lead) as lead, min(lead_uuid) as lead_uuid
    from staging.lead_keys
    where phone_key is not null
    group by phone_key
),

shared as (
    select phone_key, array_agg(lead) as leads, array_agg(lead_uuid) as lead_uuids
    from staging.lead_keys
    where phone_key in (select phone_key from keys where lead_count > 1)
    group by phone_key
)

select
    phone_key,
    case when lead_count = 1 then lead end as lead,
    case when lead_count = 1 then lead_uuid end as lead_uuid,
    leads,
    lead_uuids
from keys
left join shared using (phone_key);

-- They tell the planner that a key stands there once, and how many there are: else it would sort the snapshots.
create unique index on staging.leads_by_email (email_key);
create unique index on staging.leads_by_phone (phone_key);

drop table staging.lead_keys;
