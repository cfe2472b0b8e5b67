-- Grain: one row per snapshot day, including days without new high-quality leads.
select
    days._partition_date,
    coalesce(high_quality.new_high_quality_leads, 0) as new_high_quality_leads
from gold.leads_per_day as days
left join gold.new_high_quality_leads_per_day as high_quality using (_partition_date)
order by days._partition_date;
