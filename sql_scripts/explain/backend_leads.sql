-- Grain: one row per row of silver.stg_leads_parquet with one of the UUIDs {leads}, or the hash {hash}.
select
    lead_uuid,
    email_hash,
    phone_hash,
    _extraction_date
from silver.stg_leads_parquet
where
    lead_uuid = any({leads}::text[])
    or silver.match_key({hash}) in (silver.match_key(email_hash), silver.match_key(phone_hash))
order by lead_uuid, email_hash, phone_hash
