-- Grain: one row per seven days with a snapshot, counted back from the latest one, the latest first. covered_days: number of days
-- from the last snapshot before these seven days to the last one in them. An event on a day without a snapshot shows in the next
-- snapshot, so the counts cover all of these days. previous_snapshot: the last one before these seven days, else the first.
with weeks as (
    select
        snapshots.*,
        _partition_date + (max(_partition_date) over () - _partition_date) % 7 as last_day
    from gold.snapshots as snapshots
),

counted as (
    select
        events.day,
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
    group by events.day
)

select
    weeks.last_day,
    min(weeks.previous_snapshot) as previous_snapshot,
    coalesce(sum(weeks.days_since_previous), 0)::int as covered_days,
    coalesce(sum(counted.new_count), 0)::bigint as new_count,
    coalesce(sum(counted.left_count), 0)::bigint as left_count,
    coalesce(sum(counted.appointment_count), 0)::bigint as appointment_count,
    coalesce(sum(counted.demo_count), 0)::bigint as demo_count,
    coalesce(sum(counted.sale_count), 0)::bigint as sale_count,
    coalesce(sum(high_quality.new_high_quality_leads), 0)::bigint as high_quality_count
from weeks
-- Without events of the first snapshot: their days are unknown.
left join counted on weeks._partition_date = counted.day and weeks.previous_snapshot is not null
left join gold.new_high_quality_leads_per_day as high_quality
    on weeks._partition_date = high_quality._partition_date and weeks.previous_snapshot is not null
group by weeks.last_day
order by weeks.last_day desc;
