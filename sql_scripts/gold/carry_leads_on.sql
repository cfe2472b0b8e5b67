-- Leads whose rows stayed as they are, from the snapshot of {day_before} to that of {last_day}: they were seen again.

update gold.leads
set last_seen = {last_day}
where
    last_seen = {day_before}
    and not exists (
        select from staging.touched_leads
        where touched_leads.lead_uuid = leads.lead_uuid
    );

update gold.lead_quality_current
set
    _partition_date = {last_day},
    _extraction_date = (
        select _extraction_date
        from silver.stg_csv_snapshots
        where _partition_date = {last_day}
        limit 1
    )
where
    _partition_date = {day_before}
    and not exists (
        select from staging.touched_leads
        where touched_leads.lead_uuid = lead_quality_current.lead_uuid
    );
