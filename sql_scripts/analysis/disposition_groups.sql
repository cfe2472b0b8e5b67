-- Grain: one row per disposition group, the largest first: number of its leads, each by the lead's latest snapshot, and of those
-- that are missing from the latest snapshot in the warehouse.
select
    disposition_group,
    count(*) as lead_count,
    count(*) filter (where has_left) as left_count
from gold.lead_outcomes
group by disposition_group
order by lead_count desc, disposition_group asc;
