-- Grain: one row per snapshot day.
select
    _partition_date,
    total_leads,
    new_leads,
    cumulative_leads,
    is_first_snapshot
from gold.leads_per_day
order by _partition_date;
