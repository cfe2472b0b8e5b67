-- Grain: one row per KPI: number of its leads, by their latest snapshot, and of those whose latest match relies on suspect hashes
-- alone.
with suspect as (
    select distinct
        lead_uuid,
        _partition_date,
        coalesce(lead_number, 0) as lead_number_key
    from gold.suspect_matches
),

leads as (
    select
        current_rows.lead_quality_flag = 'High Quality' as is_high_quality,
        outcomes.disposition_group = 'sold' as is_sold,
        outcomes.demo_scheduled or outcomes.disposition_group = 'sold' as had_demo,
        outcomes.appointment_scheduled or outcomes.appt_date is not null as has_appointment,
        suspect.lead_uuid is not null as is_suspect
    from gold.lead_outcomes as outcomes
    inner join gold.lead_quality_current as current_rows using (lead_uuid)
    left join suspect
        on
            current_rows.lead_uuid = suspect.lead_uuid
            and current_rows._partition_date = suspect._partition_date
            and coalesce(current_rows.lead_number, 0) = suspect.lead_number_key
),

counted as (
    select
        figures.number,
        figures.figure,
        count(*) as lead_count,
        count(*) filter (where leads.is_suspect) as suspect_count
    from leads
    cross join
        lateral (
            values
            (1, 'all leads', true),
            (2, 'high quality', leads.is_high_quality),
            (3, 'appointment', leads.has_appointment or leads.had_demo),
            (4, 'demo', leads.had_demo),
            (5, 'sale', leads.is_sold)
        ) as figures (number, figure, holds)
    where figures.holds
    group by figures.number, figures.figure
)

select
    figure,
    lead_count,
    suspect_count,
    suspect_count / lead_count::float as suspect_share
from counted
order by number;
