-- {view}: conversion funnel per {key} of {counted}. The one definition of appointment, demo, sale and their rates.
-- Safe to rerun.
--
-- A lead has an appointment when set is 1 or appt_date is filled: on days with a broken flag the date is still reliable.
-- A stage counts the leads that reached at least this stage: a sale implies a demo, and a demo implies an appointment, whatever
-- the flags of the CRM say. So counts never rise from stage to stage.

-- Grain: one row per {key}.
create or replace view {view} as
with leads as (
    select
        {key},
        lead_uuid,
        bool_or(appointment_scheduled or appt_date is not null) as had_appointment,
        bool_or(demo_scheduled) as had_demo,
        coalesce(bool_or(dispo = 'Sale'), false) as is_sold
    from {counted}
    where lead_uuid is not null
    group by {key}, lead_uuid
),

counted as (
    select
        {key},
        count(*) as lead_count,
        count(*) filter (where had_appointment or had_demo or is_sold) as appointment_count,
        count(*) filter (where had_demo or is_sold) as demo_count,
        count(*) filter (where is_sold) as sale_count
    from leads
    group by {key}
)

select
    {key},
    lead_count,
    appointment_count,
    demo_count,
    sale_count,
    appointment_count / nullif(lead_count, 0)::float as appointment_rate,
    demo_count / nullif(lead_count, 0)::float as demo_rate,
    sale_count / nullif(lead_count, 0)::float as conversion_rate
from counted;
