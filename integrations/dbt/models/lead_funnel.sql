-- Grain: one row per lead that appears in a snapshot, by its latest snapshot. A sale implies a demo, and a demo implies an
-- appointment, as in gold.conversion_funnel_per_state: see tests/funnel_agrees_with_gold.sql.
with leads_now as (
    select
        quality.lead_uuid,
        leads.first_seen,
        quality.state,
        quality.dispo,
        quality.lead_quality_flag,
        quality.appointment_scheduled or quality.appt_date is not null as had_appointment,
        quality.demo_scheduled as had_demo,
        coalesce(quality.dispo = 'Sale', false) as is_sold
    from {{ source('gold', 'lead_quality_current') }} as quality
    inner join {{ source('gold', 'leads') }} as leads using (lead_uuid)
)

select
    lead_uuid,
    first_seen,
    state,
    dispo,
    lead_quality_flag,
    had_appointment or had_demo or is_sold as reached_appointment,
    had_demo or is_sold as reached_demo,
    is_sold as reached_sale
from leads_now
