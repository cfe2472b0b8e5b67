-- Grain: one row per day from the first snapshot to the latest. MetricFlow's time spine.
select generate_series(min(_partition_date), max(_partition_date), interval '1 day')::date as calendar_day
from {{ source('gold', 'leads_per_day') }}
