-- gold.appointments, but for user_id, which no source knows yet.
-- Grain: one row per affected lead and appointment moment that any snapshot has. unique_key: appointment_id, lead_uuid,
-- appointment_date.

with versions as (
    select *
    from staging.affected_versions
    where appointment_date is not null
),

-- An appointment keeps its id for ever: register_appointments.sql gives it.
ids as (
    select *
    from meta.appointment_ids
),

latest as (
    select distinct on (lead_uuid, appointment_date) *
    from versions
    order by lead_uuid asc, appointment_date asc, last_seen desc, match_rank asc, lead_number asc, _row_hash asc
)

select
    ids.appointment_id,
    lead_uuid,
    appointment_date,
    latest.dispo as status
from latest
inner join ids using (lead_uuid, appointment_date)
