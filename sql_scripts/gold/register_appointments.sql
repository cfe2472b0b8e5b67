-- Assigns an id to each appointment of staging.affected_versions that has none in meta.appointment_ids. The order is that of the
-- first snapshot with the appointment, then appointment_date and lead_uuid: loading days one by one, in order, gives the same ids
-- as loading them all at once.

insert into meta.appointment_ids (lead_uuid, appointment_date, appointment_id)
select
    lead_uuid,
    appointment_date,
    (select coalesce(max(given.appointment_id), 0) from meta.appointment_ids as given)
    + row_number() over (order by min(lower(versions.period)), appointment_date, lead_uuid collate "C") -- noqa: RF02
        as appointment_id
from staging.affected_versions as versions
left join meta.appointment_ids as known using (lead_uuid, appointment_date)
where appointment_date is not null and known.appointment_id is null -- noqa: RF02
group by lead_uuid, appointment_date;
