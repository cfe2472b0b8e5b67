-- gold.lead_status_history. Grain: one row per affected lead, lead number and period in which its status (dispo, job_status, set,
-- demo, appt_date) stayed the same. A snapshot without the lead number is no change.
-- unique_key: lead_uuid, lead_number, valid_from.

with versions as (
    select *
    from staging.affected_versions
),

-- If several versions compete on a day, the one with the best match is chosen: each version keeps only the days on which no
-- better one is valid.
chosen as (
    select
        lead_uuid,
        lead_number,
        dispo,
        job_status,
        versions.set,
        demo,
        appt_date,
        row(dispo, job_status, versions.set, demo, appt_date) as status,
        unnest(datemultirange(period) - coalesce(range_agg(period) over better, datemultirange())) as period
    from versions
    window better as (
        partition by lead_uuid, lead_number
        order by match_rank asc, _row_hash asc, period asc
        rows between unbounded preceding and 1 preceding
    )
),

compared as (
    select
        *,
        row_number() over periods as number,
        lag(status) over periods as status_before
    from chosen
    window periods as (partition by lead_uuid, lead_number order by period)
)

select
    lead_uuid,
    lead_number,
    dispo,
    job_status,
    set,
    demo,
    appt_date,
    lower(period) as valid_from,
    lower(lead(period) over periods) as valid_to,
    lead(period) over periods is null as is_current
from compared
where number = 1 or status is distinct from status_before
window periods as (partition by lead_uuid, lead_number order by period)
