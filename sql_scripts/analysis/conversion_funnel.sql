-- Grain: one row. All leads that any snapshot has, as they are now: the view per state has each of them once.
select
    coalesce(sum(lead_count), 0)::bigint as lead_count,
    coalesce(sum(appointment_count), 0)::bigint as appointment_count,
    coalesce(sum(demo_count), 0)::bigint as demo_count,
    coalesce(sum(sale_count), 0)::bigint as sale_count
from gold.conversion_funnel_per_state;
