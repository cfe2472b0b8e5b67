-- gold.lead_status_history. Grain: one row per affected lead, lead number and period in which its status (dispo, job_status, set,
-- demo, appt_date) stayed the same. A snapshot without the lead number is no change.
-- unique_key: lead_uuid, lead_number, valid_from.

with versions as (
    select
        lead_uuid,
        lead_number,
        valid_from,
        valid_to,
        dispo,
        job_status,
        affected_versions.set,
        demo,
        appt_date,
        match_rank,
        _row_hash,
        coalesce(lead_number, 0) as lead_number_key,
        row(dispo, job_status, affected_versions.set, demo, appt_date) as status
    from staging.affected_versions
),

-- The version that is chosen for a lead number can change only on a day on which a version begins or ends.
days as (
    select distinct
        lead_uuid,
        lead_number,
        lead_number_key,
        unnest(array[valid_from, valid_to]) as day
    from versions
),

-- If several versions compete on a day, the one with the best match is chosen.
statuses as (
    select distinct on (days.lead_uuid, days.lead_number, days.day)
        versions.*,
        days.day
    from days
    inner join versions
        on
            days.lead_uuid = versions.lead_uuid
            and days.lead_number_key = versions.lead_number_key
            and days.lead_number is not distinct from versions.lead_number
            and days.day >= versions.valid_from
            and days.day < coalesce(versions.valid_to, 'infinity')
    order by days.lead_uuid asc, days.lead_number asc, days.day asc, versions.match_rank asc, versions._row_hash asc
),

compared as (
    select
        *,
        row_number() over periods as number,
        lag(status) over periods as status_before
    from statuses
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
