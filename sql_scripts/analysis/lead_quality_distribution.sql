-- Grain: one row per quality flag, the best first.
select
    lead_quality_flag,
    row_count,
    lead_count,
    current_lead_count
from gold.lead_quality_distribution
order by array_position(array['High Quality', 'Medium Quality', 'Low Quality'], lead_quality_flag::text);
