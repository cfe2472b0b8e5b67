-- Grain: one row per state, the largest first; state is NULL for leads without a known state. Each lead is in one state.
select
    state,
    lead_count,
    appointment_count,
    demo_count,
    sale_count,
    appointment_rate,
    demo_rate,
    conversion_rate
from gold.conversion_funnel_per_state
order by lead_count desc, state asc;
