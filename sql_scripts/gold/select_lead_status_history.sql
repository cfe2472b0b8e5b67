-- What gold.lead_status_history shall hold, of the leads in {spans}. Grain: one row per lead, lead number and period in which its
-- status stayed the same. A day without the lead number is no change.

with spans as (
    select
        *,
        max(_partition_date) over (
            partition by lead_uuid, lead_number order by first_day
            rows between unbounded preceding and 1 preceding
        ) as last_day_before
    from {spans}
    where lead_uuid is not null
),

judged as (
    select
        *,
        -- Two rows of a lead number that do not simply follow each other: on some days there may be both, or neither.
        bool_or(coalesce(first_day <= last_day_before, false)) over (partition by lead_uuid, lead_number) as has_rivals
    from spans
),

-- Which of them a day has, is seen in that day's snapshot.
rival_days as (
    select distinct on (rivals.lead_uuid, rivals.lead_number, snapshots._partition_date)
        rivals.lead_uuid,
        rivals.lead_number,
        snapshots._partition_date as day,
        rivals.dispo,
        rivals.job_status,
        rivals.set,
        rivals.demo,
        rivals.appt_date
    from judged as rivals
    inner join silver.stg_csv_snapshots as snapshots
        on
            -- What can be hashed, for the join; NULL equals NULL below.
            coalesce(rivals.lead_number, 0) = coalesce(snapshots.lead_number, 0)
            and coalesce(rivals.email_hash, '') = coalesce(snapshots.email_hash, '')
            and coalesce(rivals.phone_hash, '') = coalesce(snapshots.phone_hash, '')
            and (
                rivals.lead_number, rivals.email_hash, rivals.phone_hash, rivals.city, rivals.state, rivals.zip,
                rivals.appt_date, rivals.appt_time, rivals.set, rivals.demo, rivals.dispo, rivals.job_status, rivals.location
            ) is not distinct from (
                snapshots.lead_number, snapshots.email_hash, snapshots.phone_hash, snapshots.city, snapshots.state,
                snapshots.zip, snapshots.appt_date, snapshots.appt_time, snapshots.set, snapshots.demo, snapshots.dispo,
                snapshots.job_status, snapshots.location
            )
    where rivals.has_rivals
    -- As for gold.lead_quality_current.
    order by
        rivals.lead_uuid asc,
        rivals.lead_number asc,
        snapshots._partition_date asc,
        rivals.email_match and rivals.phone_match desc,
        rivals.email_match desc,
        rivals.email_hash asc,
        rivals.phone_hash asc,
        rivals.city asc,
        rivals.state asc,
        rivals.zip asc,
        rivals.appt_date asc,
        rivals.appt_time asc,
        rivals.set asc,
        rivals.demo asc,
        rivals.dispo asc,
        rivals.job_status asc,
        rivals.location asc
),

-- The days on which a status can begin.
seen as (
    select
        lead_uuid,
        lead_number,
        first_day as day,
        dispo,
        job_status,
        set,
        demo,
        appt_date
    from judged
    where not has_rivals
    union all
    select
        lead_uuid,
        lead_number,
        day,
        dispo,
        job_status,
        set,
        demo,
        appt_date
    from rival_days
),

statuses as (
    select
        *,
        row(dispo, job_status, seen.set, demo, appt_date) as status
    from seen
),

compared as (
    select
        *,
        lag(day) over earlier as day_before,
        lag(status) over earlier as status_before
    from statuses
    window earlier as (partition by lead_uuid, lead_number order by day)
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
    lead(day) over later as valid_to,
    lead(day) over later is null as is_current
from compared
where day_before is null or status is distinct from status_before
window later as (partition by lead_uuid, lead_number order by day)
