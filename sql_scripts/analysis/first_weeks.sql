-- Grain: one row per week in which leads were first seen (its Monday), in order; NULL for the leads of the first snapshot comes
-- first. uncertain_count: leads that may belong to an earlier week, because the last day of the week before has no snapshot.
with leads as (
    select
        first_week,
        count(*) filter (where has_left) as left_count,
        count(*) filter (where not_seen_on < first_week - 1) as uncertain_count
    from gold.lead_outcomes
    group by first_week
)

select
    funnel.first_week,
    funnel.lead_count,
    funnel.appointment_count,
    funnel.sale_count,
    funnel.appointment_rate,
    funnel.conversion_rate,
    leads.left_count,
    leads.uncertain_count
from gold.conversion_funnel_per_first_week as funnel
inner join leads on funnel.first_week is not distinct from leads.first_week
order by funnel.first_week nulls first;
