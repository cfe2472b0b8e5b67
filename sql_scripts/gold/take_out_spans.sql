-- Spans of rows in staging.changed_spans make way; their leads are touched. A row that comes again begins with the first day
-- that ever had it.

with taken_out as (
    delete from staging.spans
    using staging.changed_spans as changed
    where
        -- What can be hashed, for the join; NULL equals NULL below.
        coalesce(spans.lead_number, 0) = coalesce(changed.lead_number, 0)
        and coalesce(spans.email_hash, '') = coalesce(changed.email_hash, '')
        and coalesce(spans.phone_hash, '') = coalesce(changed.phone_hash, '')
        and coalesce(spans.city, '') = coalesce(changed.city, '')
        and coalesce(spans.zip, '') = coalesce(changed.zip, '')
        and coalesce(spans.appt_date, 'epoch') = coalesce(changed.appt_date, 'epoch')
        and coalesce(spans.dispo, '') = coalesce(changed.dispo, '')
        and coalesce(spans.job_status, '') = coalesce(changed.job_status, '')
        and (
            spans.lead_number, spans.email_hash, spans.phone_hash, spans.city, spans.state, spans.zip, spans.appt_date,
            spans.appt_time, spans.set, spans.demo, spans.dispo, spans.job_status, spans.location
        ) is not distinct from (
            changed.lead_number, changed.email_hash, changed.phone_hash, changed.city, changed.state, changed.zip,
            changed.appt_date, changed.appt_time, changed.set, changed.demo, changed.dispo, changed.job_status,
            changed.location
        )
    returning spans.lead_uuid, spans.first_day, changed.number
),

touched as (
    insert into staging.touched_leads (lead_uuid)
    select distinct lead_uuid
    from taken_out
    where lead_uuid is not null
),

first_days as (
    select
        number,
        min(first_day) as first_day
    from taken_out
    group by number
)

update staging.changed_spans
set first_day = first_days.first_day
from first_days
where changed_spans.number = first_days.number and first_days.first_day < changed_spans.first_day;
