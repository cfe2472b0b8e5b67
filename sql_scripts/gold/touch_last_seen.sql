-- Updates the last-seen dates of unaffected leads: those that the last published snapshot, {published_day}, contains are in the
-- latest snapshot, too.

update gold.leads
set last_seen = latest._partition_date
from silver.versioned_days as latest
where
    latest._partition_date = (select max(days._partition_date) from silver.versioned_days as days)
    and leads.last_seen = {published_day}
    and leads.last_seen <> latest._partition_date
    and leads.lead_uuid not in (select affected.lead_uuid from staging.affected_leads as affected);

update gold.lead_quality_current as old
set
    _partition_date = latest._partition_date,
    _extraction_date = latest._extraction_date
from silver.versioned_days as latest
where
    latest._partition_date = (select max(days._partition_date) from silver.versioned_days as days)
    and old._partition_date = {published_day}
    and (old._partition_date, old._extraction_date) is distinct from (latest._partition_date, latest._extraction_date)
    and old.lead_uuid not in (select affected.lead_uuid from staging.affected_leads as affected);
