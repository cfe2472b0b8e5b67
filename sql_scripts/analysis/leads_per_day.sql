-- Grain: one row per snapshot day.
select
    _partition_date,
    total_leads,
    new_leads,
    cumulative_leads
from gold.leads_per_day
order by _partition_date;
