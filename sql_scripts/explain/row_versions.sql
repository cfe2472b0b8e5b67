-- Grain: one row per row version, ordered by lead number and day. last_day is the day of the last snapshot that contains it.
select
    contents._row_hash,
    {columns}, -- noqa: RF02
    {grade},
    lower(versions.period) as valid_from,
    max(snapshots._partition_date) as last_day,
    count(*) as day_count
from silver.row_contents as contents
cross join unnest(contents.valid_during) as versions (period)
inner join silver.versioned_days as snapshots on versions.period @> snapshots._partition_date
where {condition} -- noqa: RF02
group by contents._row_hash, versions.period
order by contents.lead_number, valid_from, contents._row_hash
