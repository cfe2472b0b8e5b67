-- Grain: one row per seven days, counted back from the latest snapshot, the latest first. covered_days: from the last snapshot
-- before these days to the last one in them, so that what happened on days without a snapshot is counted over all of them.
with weeks as (
    select
        snapshots.*,
        (max(_partition_date) over () - _partition_date) / 7 as week
    from gold.snapshots as snapshots
),

leads as (
    select
        lead_uuid,
        first_seen,
        last_seen,
        has_left,
        appointment_day,
        demo_day,
        sale_day
    from gold.lead_outcomes
),

events as (
    select
        first_seen as _partition_date,
        'new' as what
    from leads
    union all
    select
        weeks._partition_date,
        'left' as what
    from leads
    inner join weeks on leads.last_seen = weeks.previous_snapshot
    where leads.has_left
    union all
    select
        appointment_day as _partition_date,
        'appointment' as what
    from leads
    union all
    select
        demo_day as _partition_date,
        'demo' as what
    from leads
    union all
    select
        sale_day as _partition_date,
        'sale' as what
    from leads
),

-- What the first snapshot shows is of no known day.
counted as (
    select
        weeks.week,
        count(*) filter (where events.what = 'new') as new_count,
        count(*) filter (where events.what = 'left') as left_count,
        count(*) filter (where events.what = 'appointment') as appointment_count,
        count(*) filter (where events.what = 'demo') as demo_count,
        count(*) filter (where events.what = 'sale') as sale_count
    from events
    inner join weeks using (_partition_date)
    where weeks.previous_snapshot is not null
    group by weeks.week
),

high_quality as (
    select
        weeks.week,
        sum(days.new_high_quality_leads)::bigint as high_quality_count
    from gold.new_high_quality_leads_per_day as days
    inner join weeks using (_partition_date)
    where weeks.previous_snapshot is not null
    group by weeks.week
),

snapshots as (
    select
        week,
        max(_partition_date) as last_snapshot,
        count(*) as snapshot_count,
        coalesce(sum(days_since_previous), 0)::int as covered_days
    from weeks
    group by week
)

select
    snapshots.snapshot_count,
    snapshots.covered_days,
    max(snapshots.last_snapshot) over () - 7 * snapshots.week::int - 6 as first_day,
    max(snapshots.last_snapshot) over () - 7 * snapshots.week::int as last_day,
    coalesce(counted.new_count, 0) as new_count,
    coalesce(counted.left_count, 0) as left_count,
    coalesce(counted.appointment_count, 0) as appointment_count,
    coalesce(counted.demo_count, 0) as demo_count,
    coalesce(counted.sale_count, 0) as sale_count,
    coalesce(high_quality.high_quality_count, 0) as high_quality_count
from snapshots
left join counted using (week)
left join high_quality using (week)
order by snapshots.week;
