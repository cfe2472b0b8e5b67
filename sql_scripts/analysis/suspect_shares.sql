-- Grain: one row per KPI (figure): number of its leads, by their latest snapshot, and number and share (0 to 1) of those whose
-- latest match relies on suspect hashes alone.
with suspect as (
    select distinct
        lead_uuid,
        _partition_date,
        lead_number,
        email_hash,
        phone_hash
    from gold.suspect_matches
)

select
    figures.figure,
    count(*) as lead_count,
    count(suspect.lead_uuid) as suspect_count,
    count(suspect.lead_uuid) / count(*)::float as suspect_share
from gold.lead_outcomes as outcomes
inner join gold.lead_quality_current as current_rows using (lead_uuid)
left join suspect
    on
        current_rows.lead_uuid = suspect.lead_uuid
        and current_rows._partition_date = suspect._partition_date
        and (current_rows.lead_number, current_rows.email_hash, current_rows.phone_hash)
        is not distinct from (suspect.lead_number, suspect.email_hash, suspect.phone_hash)
cross join
    lateral (
        values
        (1, 'all leads', true),
        (2, 'high quality', current_rows.lead_quality_flag = 'High Quality'),
        (
            3, 'appointment',
            outcomes.appointment_scheduled or outcomes.appt_date is not null or outcomes.demo_scheduled
            or outcomes.disposition_group = 'sold'
        ),
        (4, 'demo', outcomes.demo_scheduled or outcomes.disposition_group = 'sold'),
        (5, 'sale', outcomes.disposition_group = 'sold')
    ) as figures (number, figure, holds)
where figures.holds
group by figures.number, figures.figure
order by figures.number;
