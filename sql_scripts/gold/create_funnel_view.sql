-- {view}: how far leads come, for each {key} of {counted}. The one place that says what an appointment, a demo, a sale and their
-- rates are. Safe to rerun.
--
-- A stage counts who came so far or further: who bought had a demo, and who had a demo had an appointment, whatever the CRM's
-- own flags say. (On the real files 234 rows are sold and 1,067 have a demo without `set`.) So the counts only go down.

-- Grain: one row per {key}.
create or replace view {view} as
with leads as (
    select
        {key},
        lead_uuid,
        bool_or(appointment_scheduled) as had_appointment,
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

comment on view {view} is {question};
comment on column {view}.{key} is {of_key};
comment on column {view}.lead_count is 'Distinct leads.';
comment on column {view}.appointment_count is 'Of them, those with an appointment, a demo or a sale.';
comment on column {view}.demo_count is 'Of them, those with a demo or a sale.';
comment on column {view}.sale_count is 'Of them, those that were sold: dispo is Sale.';
comment on column {view}.appointment_rate is 'appointment_count / lead_count, 0 to 1.';
comment on column {view}.demo_rate is 'demo_count / lead_count, 0 to 1.';
comment on column {view}.conversion_rate is 'sale_count / lead_count, 0 to 1: sold leads of all leads.';
