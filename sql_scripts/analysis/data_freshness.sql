-- Grain: one row. How current and complete gold is.
select
    last_complete_run,
    latest_snapshot,
    days_late,
    missing_days,
    open_anomalies
from gold.data_freshness;
