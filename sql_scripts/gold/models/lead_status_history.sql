-- gold.lead_status_history.
-- Grain: one row per affected lead, lead number and period in which its status (dispo, job_status, set, demo, appt_date) stayed
-- the same. A day without the lead number is no change. unique_key: lead_uuid, lead_number, valid_from.

with versions as (
    select
        affected_versions.*,
        row(dispo, job_status, affected_versions.set, demo, appt_date) as status
    from staging.affected_versions
),

-- Which version of a lead number wins can change only where one begins or ends.
days as (
    select
        lead_uuid,
        lead_number,
        valid_from as day
    from versions
    union
    select
        lead_uuid,
        lead_number,
        valid_to as day
    from versions
    where valid_to is not null
),

winners as (
    select distinct on (days.lead_uuid, days.lead_number, days.day)
        versions.*,
        days.day
    from days
    inner join versions
        on
            days.lead_uuid = versions.lead_uuid
            and coalesce(days.lead_number, 0) = coalesce(versions.lead_number, 0)
            and days.lead_number is not distinct from versions.lead_number
            and days.day >= versions.valid_from
            and (days.day < versions.valid_to or versions.valid_to is null)
    order by days.lead_uuid asc, days.lead_number asc, days.day asc, versions.match_rank asc, versions._row_hash asc
),

compared as (
    select
        *,
        row_number() over periods as number,
        lag(status) over periods as status_before
    from winners
    window periods as (partition by lead_uuid, lead_number order by day)
)

select
    lead_uuid,
    lead_number,
    dispo,
    job_status,
    set,
    demo,
    appt_date,
    day as valid_from,
    lead(day) over periods as valid_to,
    lead(day) over periods is null as is_current
from compared
where number = 1 or status is distinct from status_before
window periods as (partition by lead_uuid, lead_number order by day)
