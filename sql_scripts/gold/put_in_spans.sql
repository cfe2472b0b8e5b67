-- Spans of changed rows take their places as they are now, staging.matched_spans; their leads are touched.

insert into staging.touched_leads (lead_uuid)
select distinct lead_uuid
from staging.matched_spans
where lead_uuid is not null;

insert into staging.spans
select * -- noqa: AM04
from staging.matched_spans;

drop table staging.changed_spans, staging.matched_spans;
