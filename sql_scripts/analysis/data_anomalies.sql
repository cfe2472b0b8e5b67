-- Grain: one row per day and metric that should not be trusted.
select
    _partition_date,
    metric,
    observed,
    expected
from gold.data_anomalies
order by _partition_date, metric;
