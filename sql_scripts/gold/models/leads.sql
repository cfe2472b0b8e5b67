-- gold.leads. Grain: one row per affected lead of the backend; NULLs for one that no snapshot has. unique_key: lead_uuid.

with affected_leads as (
    select lead_uuid
    from meta.affected_leads
),

backend_leads as (
    select distinct lead_uuid
    from silver.matched_leads
),

current_rows as (
    select *
    from staging.lead_quality_current
),

first_days as (
    select
        lead_uuid,
        min(valid_from) as first_seen
    from staging.affected_versions
    group by lead_uuid
),

leads as (
    select
        current_rows.*,
        first_days.first_seen,
        affected_leads.lead_uuid as backend_lead_uuid
    from affected_leads
    inner join backend_leads using (lead_uuid)
    left join current_rows using (lead_uuid)
    left join first_days using (lead_uuid)
)

select
    backend_lead_uuid as lead_uuid,
    {columns},
    first_seen,
    _partition_date as last_seen
from leads
