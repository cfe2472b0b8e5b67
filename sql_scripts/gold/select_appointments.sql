-- What gold.appointments shall hold, of the leads in {spans}. Grain: one row per lead and moment of an appointment that any
-- snapshot has.
--
-- An appointment that is known keeps its id. New ones are numbered after the highest id ever given, in the order in which they
-- were first seen, then by moment and lead: so that days loaded one after the other number them as a load of all days does.

with shown as (
    select
        *,
        appt_date + coalesce(appt_time, '00:00') as appointment_date
    from {spans}
    where lead_uuid is not null and appt_date is not null
),

latest as (
    select distinct on (lead_uuid, appointment_date)
        lead_uuid,
        appointment_date,
        dispo as status
    from shown
    -- As for gold.lead_quality_current.
    order by
        lead_uuid asc,
        appointment_date asc,
        _partition_date desc,
        email_match and phone_match desc,
        email_match desc,
        lead_number asc,
        email_hash asc,
        phone_hash asc,
        city asc,
        state asc,
        zip asc,
        set asc,
        demo asc,
        dispo asc,
        job_status asc,
        location asc
),

first_days as (
    select
        lead_uuid,
        appointment_date,
        min(first_day) as first_day
    from shown
    group by lead_uuid, appointment_date
),

given_ids as (
    -- max() ignores NULL, and gives it where there are none.
    select coalesce(max(given.id), 0) as last_id
    from (
        select appointment_id as id
        from gold.appointments
        union all
        select (facts ->> 'last_id')::int as id
        from meta.table_loads
        where table_name = 'gold.appointments'
    ) as given
)

select
    lead_uuid,
    appointment_date,
    latest.status,
    coalesce(
        known.appointment_id,
        given_ids.last_id + row_number() over (
            partition by known.appointment_id is null
            order by first_days.first_day, appointment_date, lead_uuid collate "C" -- noqa: RF02
        )
    )::int as appointment_id
from latest
inner join first_days using (lead_uuid, appointment_date)
left join gold.appointments as known using (lead_uuid, appointment_date)
cross join given_ids
