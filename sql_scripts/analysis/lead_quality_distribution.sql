-- Grain: one row per quality flag, the best first. `current_lead_count` counts each lead once, as it is now.
select
    distribution.lead_quality_flag,
    distribution.row_count,
    distribution.lead_count,
    count(leads_now.lead_uuid) as current_lead_count
from gold.lead_quality_distribution as distribution
left join gold.lead_quality_current as leads_now using (lead_quality_flag)
group by distribution.lead_quality_flag, distribution.row_count, distribution.lead_count
order by array_position(array['High Quality', 'Medium Quality', 'Low Quality'], distribution.lead_quality_flag::text);
