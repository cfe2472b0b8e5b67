-- Leads of the snapshot of {day_before}, the latest that gold knows, were seen again in that of {last_day}. Of nearly all that is
-- so; it is written before it is known of which it is not. collect_differences.sql has the rows of these come, merged afterwards.

update gold.leads
set last_seen = {last_day}
where last_seen = {day_before};

update gold.lead_quality_current
set
    _partition_date = {last_day},
    _extraction_date = (
        select _extraction_date
        from silver.stg_csv_snapshots
        where _partition_date = {last_day}
        limit 1
    )
where _partition_date = {day_before};
