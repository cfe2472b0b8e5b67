-- Grain: one row per stage. Days from the first snapshot with a lead to the first one that shows it at the stage, without the
-- leads of the first snapshot, which are older. inexact_count: of those that reached it, leads with days without a snapshot just
-- before one of the two.
with leads as (
    select *
    from gold.lead_outcomes
    where not_seen_on is not null
),

stages as (
    select
        1 as number,
        'appointment' as stage,
        first_seen,
        not_seen_on,
        appointment_day as reached_on
    from leads
    union all
    select
        2 as number,
        'demo' as stage,
        first_seen,
        not_seen_on,
        demo_day as reached_on
    from leads
    union all
    select
        3 as number,
        'sale' as stage,
        first_seen,
        not_seen_on,
        sale_day as reached_on
    from leads
)

select
    stages.stage,
    count(*) as lead_count,
    count(stages.reached_on) as reached_count,
    count(*) filter (where stages.reached_on = stages.first_seen) as same_day_count,
    count(*) filter (where stages.reached_on <= stages.first_seen + 7) as within_7_days_count,
    percentile_cont(0.5) within group (order by stages.reached_on - stages.first_seen) as median_days,
    count(stages.reached_on) filter (
        where stages.not_seen_on < stages.first_seen - 1 or snapshots.days_since_previous > 1
    ) as inexact_count
from stages
left join gold.snapshots as snapshots on stages.reached_on = snapshots._partition_date
group by stages.number, stages.stage
order by stages.number;
