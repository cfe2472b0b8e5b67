-- gold.leads. Grain: one row per affected lead of the backend; NULLs if no snapshot contains it. unique_key: lead_uuid.

with backend_leads as (
    select distinct lead_uuid
    from silver.matched_leads
    inner join staging.affected_leads using (lead_uuid)
),

first_days as (
    select
        lead_uuid,
        min(lower(period)) as first_seen
    from staging.affected_versions
    group by lead_uuid
),

latest as (
    select *
    from staging.lead_quality_current
)

select
    lead_uuid,
    {columns}, -- noqa: RF02
    first_days.first_seen,
    latest._partition_date as last_seen
from backend_leads
left join latest using (lead_uuid)
left join first_days using (lead_uuid)
