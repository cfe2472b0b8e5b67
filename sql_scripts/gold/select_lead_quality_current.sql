-- What gold.lead_quality_current shall hold, of the leads in {spans}. Grain: one row per lead seen in the CRM: its row of
-- gold.lead_quality_matching on the latest day that has it. {last_day} is the latest snapshot.

with latest as (
    select distinct on (lead_uuid) *
    from {spans}
    where lead_uuid is not null
    -- Where several rows of a day compete: both-match before e-mail before phone, the lowest lead number; then whatever differs.
    order by
        lead_uuid asc,
        _partition_date desc,
        email_match and phone_match desc,
        email_match desc,
        lead_number asc,
        email_hash asc,
        phone_hash asc,
        city asc,
        state asc,
        zip asc,
        appt_date asc,
        appt_time asc,
        set asc,
        demo asc,
        dispo asc,
        job_status asc,
        location asc
),

days as (
    select
        latest_days._partition_date,
        snapshot._extraction_date
    from (select distinct least(_partition_date, {last_day}) as _partition_date from latest) as latest_days
    cross join lateral (
        select _extraction_date
        from silver.stg_csv_snapshots
        where _partition_date = latest_days._partition_date
        limit 1
    ) as snapshot
)

select
    latest.lead_uuid,
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
    latest.appointment_scheduled,
    latest.demo_scheduled,
    latest.email_match,
    latest.phone_match,
    days._extraction_date,
    days._partition_date,
    latest.conversion_rate,
    latest.lead_quality_flag
from latest
inner join days on days._partition_date = least(latest._partition_date, {last_day})
