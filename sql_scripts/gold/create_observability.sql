-- Observability: daily metrics, anomalies, freshness of gold, and status changes. Safe to rerun.

-- Grain: one row per snapshot day and metric that deviates from its expected value. Filled by etl/warehouse/anomalies.py.
create table if not exists gold.data_anomalies (
    _partition_date date not null,
    metric varchar(100) not null,
    observed float not null,
    expected float not null,
    severity varchar(10) not null,
    message varchar(500) not null,
    primary key (_partition_date, metric)
);

-- Grain: one row per snapshot day of gold and metric. value is NULL if row_count is 0.
create or replace view gold.daily_metrics as
with days as (
    select
        partition_date,
        facts,
        (facts ->> 'rejected')::bigint as rejected,
        (facts ->> 'snapshot_rows')::bigint as row_count,
        lag((facts ->> 'snapshot_rows')::bigint) over (order by partition_date) as previous_row_count,
        partition_date - lag(partition_date) over (order by partition_date) as days_since_previous
    from meta.table_loads
    where parent_table = 'gold.lead_quality_matching' and facts ? 'snapshot_rows'
),

-- Numbers of leads by first_seen, and by last_seen.
counted_leads as (
    select
        first_seen,
        last_seen,
        count(*) as leads
    from gold.leads
    group by grouping sets ((first_seen), (last_seen))
),

-- A period ends on the day on which the next one begins.
status_changes as (
    select
        valid_to as partition_date,
        count(*) as leads
    from gold.lead_status_history
    where valid_to is not null
    group by valid_to
)

select
    days.partition_date as _partition_date,
    counts.metric::varchar(100) as metric,
    counts.occurrences / nullif(counts.row_count, 0) as value,
    counts.row_count
from days
left join counted_leads as first_days on days.partition_date = first_days.first_seen
left join counted_leads as last_days on days.partition_date - days.days_since_previous = last_days.last_seen
left join status_changes using (partition_date)
cross join
    lateral (
        select
            metric.key,
            metric.value::float as occurrences,
            days.row_count
        from jsonb_each_text(days.facts -> 'metrics') as metric
        union all
        select
            format('match_%s_share', scenario) as metric,
            (days.facts ->> scenario)::float as occurrences,
            days.row_count
        from unnest(array['both', 'email_only', 'phone_only', 'none']) as scenario
        union all
        select
            format('%s_nulled_share', nulled.key) as metric,
            (nulled.value ->> 'nulled')::float as occurrences,
            (nulled.value ->> 'values')::bigint as row_count
        from jsonb_each(days.facts -> 'nulled') as nulled
        union all
        -- Numbers of leads are divided by the days since the previous snapshot: after a gap, more leads change.
        values
        ('repeated_lead_number_share', (days.facts ->> 'repeated')::float, (days.facts ->> 'distinct')::bigint),
        ('rejected_share', days.rejected, days.row_count + days.rejected),
        ('new_lead_share', coalesce(first_days.leads, 0)::float / days.days_since_previous, days.row_count),
        ('lost_lead_share', coalesce(last_days.leads, 0)::float / days.days_since_previous, days.previous_row_count),
        ('status_change_share', coalesce(status_changes.leads, 0)::float / days.days_since_previous, days.row_count)
    ) as counts (metric, occurrences, row_count)
where counts.occurrences is not null
union all
select
    partition_date as _partition_date,
    'rows'::varchar(100) as metric,
    row_count::float as value,
    row_count
from days;

-- Drop the view of an earlier version with another order of columns, which `create or replace view` cannot change.
do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('gold.data_freshness') and attname = 'last_complete_run' and attnum > 1
    ) then
        drop view gold.data_freshness;
    end if;
end
$$;

-- Grain: one row.
create or replace view gold.data_freshness as
with span as (
    select
        min(_partition_date) as first_snapshot,
        max(_partition_date) as latest_snapshot,
        count(*) as snapshots
    from gold.snapshots
)

select -- noqa: ST06
    (
        select max(runs.ended_at) from meta.pipeline_runs as runs
        where runs.status = 'complete' and runs.arguments -> 'steps' @> '[6]' -- other steps do not publish gold
    ) as last_complete_run,
    span.latest_snapshot,
    (now() at time zone 'utc')::date - span.latest_snapshot as days_late,
    (span.latest_snapshot - span.first_snapshot + 1 - span.snapshots)::int as missing_days,
    (select count(*) from gold.data_anomalies)::int as open_anomalies
from span;

-- The one definition of a change of a lead's status.
-- Grain: one row per lead, lead number and day on which the status changed. If only `set` or `demo` changed, the change counts
-- unless every changed flag is broken on that day, in the snapshot before it, or on the day on which the previous status began. A
-- flag is broken on days with an anomaly of its share, of its NULLs, or of a metric that compares it with appt_date or sales.
create or replace view gold.status_changes as
with broken as (
    select
        array_agg(_partition_date) filter (where metric not like '%demo%') as set_days,
        array_agg(_partition_date) filter (where metric like '%demo%') as demo_days
    from gold.data_anomalies
    where
        metric in (
            'set_share', 'set_null_share', 'set_without_appt_date_share', 'appt_date_without_set_share',
            'demo_share', 'demo_null_share', 'sale_without_demo_share'
        )
),

periods as (
    select
        lead_uuid,
        lead_number,
        valid_from,
        dispo,
        lead_status_history.set,
        demo,
        lag(valid_from) over lead_numbers as valid_from_before,
        lag(dispo) over lead_numbers as dispo_before,
        lag(lead_status_history.set) over lead_numbers as set_before,
        lag(demo) over lead_numbers as demo_before,
        row(dispo, job_status, appt_date) as other_status,
        lag(row(dispo, job_status, appt_date)) over lead_numbers as other_status_before,
        min(valid_from) over lead_numbers as first_seen
    from gold.lead_status_history
    window lead_numbers as (partition by lead_uuid, lead_number order by valid_from)
)

select
    periods.lead_uuid,
    periods.lead_number,
    periods.valid_from as _partition_date,
    periods.dispo_before,
    periods.dispo,
    periods.valid_from - coalesce(lag(periods.valid_from) over lead_numbers, periods.first_seen) as days_before
from periods
left join gold.snapshots as snapshots on periods.valid_from = snapshots._partition_date
cross join broken
where
    periods.valid_from_before is not null
    and (
        periods.other_status is distinct from periods.other_status_before
        or (
            periods.set is distinct from periods.set_before
            and (broken.set_days && array[periods.valid_from, snapshots.previous_snapshot, periods.valid_from_before])
            is not true -- NULL if the flag is never broken
        )
        or (
            periods.demo is distinct from periods.demo_before
            and (broken.demo_days && array[periods.valid_from, snapshots.previous_snapshot, periods.valid_from_before])
            is not true -- NULL if the flag is never broken
        )
    )
window lead_numbers as (partition by periods.lead_uuid, periods.lead_number order by periods.valid_from);
