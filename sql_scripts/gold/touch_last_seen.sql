-- Leads of the latest published snapshot, {published_day}, that are not affected are in the latest snapshot, {latest_day}, too.

update gold.leads
set last_seen = {latest_day}
where
    last_seen = {published_day}
    and last_seen <> {latest_day}
    and lead_uuid not in (select lead_uuid from meta.affected_leads);

update gold.lead_quality_current as lead
set
    _partition_date = day._partition_date,
    _extraction_date = day._extraction_date
from silver.versioned_days as day
where
    day._partition_date = {latest_day}
    and lead._partition_date = {published_day}
    and (lead._partition_date, lead._extraction_date) is distinct from (day._partition_date, day._extraction_date)
    and lead.lead_uuid not in (select lead_uuid from meta.affected_leads);
