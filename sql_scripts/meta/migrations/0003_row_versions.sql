-- Gold is built from row versions: ids of appointments, and leads whose gold rows have to be merged.

-- Grain: one row per assigned appointment id. Rows are never deleted, so an appointment that returns gets its old id, and no id
-- is assigned twice. A row without lead and date reserves its id and all lower ones.
create table meta.appointment_ids (
    appointment_id int primary key,
    lead_uuid varchar(255),
    appointment_date timestamp,
    unique (lead_uuid, appointment_date)
);

-- Insert the ids that the previous version assigned: those in gold.appointments, and the highest one, whose appointment may have
-- been deleted.
do $$
begin
    if to_regclass('gold.appointments') is not null then
        execute '
            insert into meta.appointment_ids (appointment_id, lead_uuid, appointment_date)
            select appointment_id, lead_uuid, appointment_date from gold.appointments
            on conflict do nothing
        ';
    end if;
end
$$;

insert into meta.appointment_ids (appointment_id)
select (loads.facts ->> 'last_id')::int as appointment_id
from meta.table_loads as loads
where
    loads.table_name = 'gold.appointments'
    and (loads.facts ->> 'last_id')::int > (select coalesce(max(given.appointment_id), 0) from meta.appointment_ids as given);

-- Grain: one row per lead whose gold rows have to be merged, and change that affects it. Kept until they are published. Without a
-- key, which would slow down inserts.
create table meta.affected_leads (
    lead_uuid varchar(255) not null
);

-- Drop the staging tables of the previous version, including those that a killed run may have left.
drop table if exists staging.spans, staging.lead_keys, staging.lead_pairs, staging.touched_leads, staging.touched_spans,
staging.wanted_leads, staging.come_leads, staging.gone_leads,
staging.wanted_lead_quality_current, staging.come_lead_quality_current, staging.gone_lead_quality_current,
staging.wanted_appointments, staging.come_appointments, staging.gone_appointments,
staging.wanted_lead_status_history, staging.come_lead_status_history, staging.gone_lead_status_history;

delete from meta.table_loads
where parent_table in ('staging.spans', 'staging.leads');
