-- gold.leads. Grain: one row per affected lead of the backend; NULLs for one that no snapshot has. unique_key: lead_uuid.

with backend_leads as (
    select distinct lead_uuid
    from silver.matched_leads
    where lead_uuid in (select affected.lead_uuid from meta.affected_leads as affected)
),

versions as (
    select *
    from staging.affected_versions
),

first_days as (
    select
        lead_uuid,
        min(valid_from) as first_seen
    from versions
    group by lead_uuid
),

latest as (
    select distinct on (lead_uuid) *
    from versions
    order by lead_uuid asc, last_seen desc, match_rank asc, lead_number asc, _row_hash asc
),

leads as (
    select * -- noqa: RF02
    from backend_leads
    left join latest using (lead_uuid)
    left join first_days using (lead_uuid)
)

select
    lead_uuid,
    {columns},
    first_seen,
    last_seen
from leads
