-- The leads with the keys by which step 6 finds them: their hashes, trimmed and in lower case; an empty or NULL hash gives
-- none. Grain: one row per row of silver.stg_leads_parquet, which `lead` numbers, since nothing says that a lead_uuid
-- stands there only once. create_lead_lookup.sql makes the two look-up tables of it; it is gone afterwards.

drop table if exists staging.lead_keys;

create table staging.lead_keys as
select
    row_number() over ()::int as lead,
    lead_uuid,
    nullif(lower(btrim(email_hash, e' \t\n\r\f\x0b')), '') as email_key,
    nullif(lower(btrim(phone_hash, e' \t\n\r\f\x0b')), '') as phone_key
from silver.stg_leads_parquet;
