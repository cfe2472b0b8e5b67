-- Grain: one row per seven days with a snapshot, counted back from the latest one, the latest first. covered_days: number of days
-- from the last snapshot before these seven days to the last one in them. An event on a day without a snapshot shows in the next
-- snapshot, so the counts cover all of these days.
with weeks as (
    select
        snapshots.*,
        (max(_partition_date) over () - _partition_date) / 7 as week
    from gold.snapshots as snapshots
),

-- Without events of the first snapshot: their days are unknown.
counted as (
    select
        weeks.week,
        count(*) filter (where events.what = 'new') as new_count,
        count(*) filter (where events.what = 'left') as left_count,
        count(*) filter (where events.what = 'appointment') as appointment_count,
        count(*) filter (where events.what = 'demo') as demo_count,
        count(*) filter (where events.what = 'sale') as sale_count
    from gold.lead_outcomes as leads
    left join gold.snapshots as following on leads.has_left and leads.last_seen = following.previous_snapshot
    cross join
        lateral (
            values
            ('new', leads.first_seen),
            ('left', following._partition_date),
            ('appointment', leads.appointment_day),
            ('demo', leads.demo_day),
            ('sale', leads.sale_day)
        ) as events (what, day)
    inner join weeks on events.day = weeks._partition_date
    where weeks.previous_snapshot is not null
    group by weeks.week
),

snapshots as (
    select
        weeks.week,
        max(weeks._partition_date) as last_snapshot,
        count(*) as snapshot_count,
        coalesce(sum(weeks.days_since_previous), 0)::int as covered_days,
        sum(days.new_high_quality_leads) filter (where weeks.previous_snapshot is not null) as high_quality_count
    from weeks
    left join gold.new_high_quality_leads_per_day as days using (_partition_date)
    group by weeks.week
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
    coalesce(snapshots.high_quality_count, 0)::bigint as high_quality_count
from snapshots
left join counted using (week)
order by snapshots.week;
