-- gold.appointments without user_id, which no source contains yet.
-- Grain: one row per affected lead and appointment_date that a snapshot contains. unique_key: appointment_id, lead_uuid,
-- appointment_date.

with versions as (
    select *
    from staging.affected_versions
    where appointment_date is not null
),

-- register_appointments.sql has assigned an id to each appointment; ids never change.
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
