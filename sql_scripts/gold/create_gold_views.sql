-- Views over gold: each answers one question of the analysis. Safe to run again.

-- How did snapshot rows match backend leads?
create or replace view gold.match_scenarios as
with rows_by_scenario as (
    select
        case
            when email_match and phone_match then 'both'
            when email_match then 'email_only'
            when phone_match then 'phone_only'
            else 'none'
        end as scenario,
        lead_uuid
    from gold.lead_quality_matching
)

select
    scenario,
    count(*) as row_count,
    count(distinct lead_uuid) as lead_count
from rows_by_scenario
group by scenario;

-- How good are the leads?
create or replace view gold.lead_quality_distribution as
select
    lead_quality_flag,
    count(distinct lead_uuid) as lead_count,
    count(*) as row_count
from gold.lead_quality_matching
group by lead_quality_flag;
