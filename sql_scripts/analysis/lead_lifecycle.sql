-- Grain: one row. Number of leads whose status changed, number of changes, median days that a status lasted before a change, and
-- number of leads.
select
    count(distinct lead_uuid) as changed_lead_count,
    count(*) as change_count,
    percentile_cont(0.5) within group (order by days_before) as median_days,
    (select count(distinct history.lead_uuid) from gold.lead_status_history as history) as lead_count
from gold.status_changes;
