-- Spans of {changed} rows make way in {spans} for what they are now, {matched}; the leads of both are touched.

with taken_out as (
    delete from {spans} as spans
    using {changed} as changed
    where
        -- What can be hashed, for the join; NULL equals NULL below.
        coalesce(spans.lead_number, 0) = coalesce(changed.lead_number, 0)
        and coalesce(spans.email_hash, '') = coalesce(changed.email_hash, '')
        and coalesce(spans.phone_hash, '') = coalesce(changed.phone_hash, '')
        and (
            spans.lead_number, spans.email_hash, spans.phone_hash, spans.city, spans.state, spans.zip, spans.appt_date,
            spans.appt_time, spans.set, spans.demo, spans.dispo, spans.job_status, spans.location
        ) is not distinct from (
            changed.lead_number, changed.email_hash, changed.phone_hash, changed.city, changed.state, changed.zip,
            changed.appt_date, changed.appt_time, changed.set, changed.demo, changed.dispo, changed.job_status,
            changed.location
        )
    returning spans.lead_uuid
)

insert into staging.touched_leads (lead_uuid)
select lead_uuid
from taken_out
where lead_uuid is not null
union
select lead_uuid
from {matched}
where lead_uuid is not null;

insert into {spans}
select * -- noqa: AM04
from {matched};

drop table {changed}, {matched};
