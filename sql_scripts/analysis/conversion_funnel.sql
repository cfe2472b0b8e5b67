-- Grain: one row. Totals of all leads that appear in a snapshot, by their latest snapshot: each lead is in one state.
select
    coalesce(sum(lead_count), 0)::bigint as lead_count,
    coalesce(sum(appointment_count), 0)::bigint as appointment_count,
    coalesce(sum(demo_count), 0)::bigint as demo_count,
    coalesce(sum(sale_count), 0)::bigint as sale_count
from gold.conversion_funnel_per_state;
