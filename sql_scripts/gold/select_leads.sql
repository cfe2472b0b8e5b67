-- What gold.leads shall hold, of the leads in {leads}. Grain: one row per lead_uuid of the backend; NULLs for one that no
-- snapshot has. {current} has the row of its latest snapshot.

with backend_leads as (
    select distinct lead_uuid
    from {leads}
),

first_days as (
    select
        lead_uuid,
        min(first_day) as first_seen
    from {spans}
    where lead_uuid is not null
    group by lead_uuid
)

select
    lead_uuid,
    latest.lead_number,
    latest.email_hash,
    latest.phone_hash,
    latest.city,
    latest.state,
    latest.zip,
    latest.appt_date,
    latest.set,
    latest.demo,
    latest.dispo,
    latest.job_status,
    latest.location,
    first_days.first_seen,
    latest._partition_date as last_seen
from backend_leads
left join {current} as latest using (lead_uuid)
left join first_days using (lead_uuid)
