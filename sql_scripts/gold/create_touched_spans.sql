-- The spans of the leads of which new snapshots say anything else than the one before. Grain: as staging.spans.

analyze staging.touched_leads;

drop table if exists staging.touched_spans;
create table staging.touched_spans (like staging.spans);
insert into staging.touched_spans
select spans.* -- noqa: AM04
from staging.spans
where spans.lead_uuid in (select touched_leads.lead_uuid from staging.touched_leads);

analyze staging.touched_spans;
