-- Grain: one row per scenario, in the order both, email_only, phone_only, none.
select
    scenario,
    row_count,
    lead_count
from gold.match_scenarios
order by array_position(array['both', 'email_only', 'phone_only', 'none'], scenario::text);
