-- Grain: one row. How often leads change status, and how long a status lasts that has come to its end.
with periods as (
    select
        lead_uuid,
        valid_from,
        valid_to,
        row_number() over (partition by lead_uuid, lead_number order by valid_from) > 1 as is_change
    from gold.lead_status_history
)

select
    count(distinct lead_uuid) as lead_count,
    count(distinct lead_uuid) filter (where is_change) as changed_lead_count,
    count(*) filter (where is_change) as change_count,
    percentile_cont(0.5) within group (order by valid_to - valid_from) as median_days
from periods;
