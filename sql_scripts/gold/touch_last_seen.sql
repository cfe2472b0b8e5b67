-- Updates the last-seen dates of unaffected leads: those that the last published snapshot, {published_day}, contains are in the
-- latest snapshot, {latest_day}, too.

update gold.leads
set last_seen = {latest_day}
where
    last_seen = {published_day}
    and last_seen <> {latest_day}
    and lead_uuid not in (select affected.lead_uuid from staging.affected_leads as affected);

update gold.lead_quality_current
set
    _partition_date = {latest_day},
    _extraction_date = {extraction_date}
where
    _partition_date = {published_day}
    and (_partition_date, _extraction_date) is distinct from ({latest_day}, {extraction_date})
    and lead_uuid not in (select affected.lead_uuid from staging.affected_leads as affected);
