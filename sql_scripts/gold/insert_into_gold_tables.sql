-- Grades rows and inserts them into {target}, which has the columns of gold.lead_quality_matching. The rows are those of a model:
-- a day's matched snapshot rows, or the row of each lead as it is now. The one place that says what a lead's quality is.

insert into {target} (
    lead_uuid, {columns}, appointment_scheduled, demo_scheduled, email_match, phone_match, _extraction_date, _partition_date,
    conversion_rate, lead_quality_flag
)
select
    lead_uuid,
    {columns},
    coalesce(matched.set = 1, false) as appointment_scheduled,
    coalesce(demo = 1, false) as demo_scheduled,
    email_match,
    phone_match,
    _extraction_date,
    _partition_date,
    null as conversion_rate,
    case
        when matched.set = 1 and demo = 1 then 'High Quality'
        when matched.set = 1 then 'Medium Quality'
        else 'Low Quality'
    end as lead_quality_flag
from ({rows}) as matched;
