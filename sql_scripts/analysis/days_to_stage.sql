-- Grain: one row per stage. Days from a lead's first snapshot to the first snapshot that shows it at the stage. Leads that the
-- earliest snapshot contains are left out, because they may be older. inexact_count: leads that reached the stage, and that have
-- missing days right before one of these two snapshots.
select
    stages.stage,
    count(*) as lead_count,
    count(stages.reached_on) as reached_count,
    count(*) filter (where stages.reached_on = leads.first_seen) as same_day_count,
    count(*) filter (where stages.reached_on <= leads.first_seen + 7) as within_7_days_count,
    percentile_cont(0.5) within group (order by stages.reached_on - leads.first_seen) as median_days,
    count(stages.reached_on) filter (
        where leads.not_seen_on < leads.first_seen - 1 or snapshots.days_since_previous > 1
    ) as inexact_count
from gold.lead_outcomes as leads
cross join
    lateral (
        values
        (1, 'appointment', leads.appointment_day),
        (2, 'demo', leads.demo_day),
        (3, 'sale', leads.sale_day)
    ) as stages (number, stage, reached_on)
left join gold.snapshots as snapshots on stages.reached_on = snapshots._partition_date
where leads.not_seen_on is not null
group by stages.number, stages.stage
order by stages.number;
