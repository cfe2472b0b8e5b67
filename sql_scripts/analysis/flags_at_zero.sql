-- Grain: one row per flag and snapshot day on which it is 0 in all rows, if it is not so on other days.
select
    _partition_date,
    metric
from gold.daily_metrics as zero
where
    metric in ('set_share', 'demo_share')
    and value = 0
    and exists (
        select from gold.daily_metrics as other
        where other.metric = zero.metric and other.value > 0
    )
order by metric desc, _partition_date asc;
