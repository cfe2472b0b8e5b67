-- Grain: one row per snapshot day and quality flag.
select
    _partition_date,
    lead_quality_flag,
    lead_count,
    row_count
from gold.lead_quality_per_day
order by _partition_date, lead_quality_flag;
