-- Grain: one row per flag and snapshot day on which no row has the value 1, if rows of other days have it.
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
