-- Grain: one row per anomaly: day and metric.
select
    _partition_date,
    metric,
    observed,
    expected
from gold.data_anomalies
order by _partition_date, metric;
