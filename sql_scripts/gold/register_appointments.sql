-- Gives an id to each appointment of staging.affected_versions that has none. Ids follow the day on which an appointment was
-- first seen, then its moment and lead: so days loaded one by one number them as a load of all days does.

insert into meta.appointment_ids (lead_uuid, appointment_date, appointment_id)
select
    lead_uuid,
    appointment_date,
    (select coalesce(max(given.appointment_id), 0) from meta.appointment_ids as given)
    + row_number() over (order by min(versions.valid_from), appointment_date, lead_uuid collate "C") -- noqa: RF02
        as appointment_id
from staging.affected_versions as versions
left join meta.appointment_ids as known using (lead_uuid, appointment_date)
where appointment_date is not null and known.appointment_id is null -- noqa: RF02
group by lead_uuid, appointment_date;
