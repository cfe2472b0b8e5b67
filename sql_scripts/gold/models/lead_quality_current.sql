-- gold.lead_quality_current. Grain: one row per affected lead that a snapshot contains. unique_key: lead_uuid.

with versions as (
    select *
    from staging.affected_versions
),

latest as (
    select distinct on (lead_uuid) *
    from versions
    order by lead_uuid asc, last_seen desc, match_rank asc, lead_number asc, _row_hash asc
)

select
    lead_uuid,
    {columns},
    email_match,
    phone_match,
    _extraction_date,
    last_seen as _partition_date,
    {grade}
from latest
