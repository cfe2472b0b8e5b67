-- Grain: one row per disposition group, the largest first: its leads as they are now, and those of them that the latest snapshot
-- does not have.
select
    disposition_group,
    count(*) as lead_count,
    count(*) filter (where has_left) as left_count
from gold.lead_outcomes
group by disposition_group
order by lead_count desc, disposition_group asc;
