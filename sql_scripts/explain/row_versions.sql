-- Grain: one row per row version, ordered by lead number and day. last_day is the day of the last snapshot that contains it.
with versions as (
    select
        *, -- noqa: AM04
        lower(period) as valid_from
    from silver.row_contents
    cross join unnest(valid_during) as period
    where {condition}
),

days as (
    select
        versions._row_hash,
        versions.valid_from,
        max(snapshots._partition_date) as last_day,
        count(*) as day_count
    from versions
    inner join silver.versioned_days as snapshots on versions.period @> snapshots._partition_date
    group by versions._row_hash, versions.valid_from
)

select
    _row_hash,
    {columns}, -- noqa: RF02
    valid_from,
    days.last_day,
    days.day_count,
    {grade}
from versions
inner join days using (_row_hash, valid_from)
order by lead_number, valid_from, _row_hash -- noqa: RF02
