-- Analysis views. Safe to rerun. BI tools rely on their names and columns: new columns come last. Leads are counted by lead_uuid,
-- so rows that match no lead of the backend count as rows only.

-- Drop views of earlier versions that have columns of type text: `create or replace view` cannot change a type.
do $$
begin
    if exists (
        select from pg_attribute
        where
            attrelid in (to_regclass('gold.match_scenarios'), to_regclass('gold.suspect_hashes'))
            and atttypid = 'text'::regtype
    ) then
        drop view if exists gold.match_scenarios, gold.suspect_matches, gold.suspect_hashes;
    end if;
end
$$;

-- Grain: one row per scenario, including scenarios that do not occur.
create or replace view gold.match_scenarios as
with scenarios (scenario, email_match, phone_match) as (
    values
    ('both'::varchar(20), true, true),
    ('email_only', true, false),
    ('phone_only', false, true),
    ('none', false, false)
)

select
    scenarios.scenario,
    count(matching._partition_date) as row_count,
    count(distinct matching.lead_uuid) as lead_count
from scenarios
left join gold.lead_quality_matching as matching using (email_match, phone_match)
group by scenarios.scenario;

-- Grain: one row per snapshot row that matches no lead. Key: _partition_date, lead_match_id.
create or replace view gold.unmatched_snapshot_rows as
select
    lead_uuid,
    lead_number,
    email_hash,
    phone_hash,
    city,
    state,
    zip,
    appt_date,
    set,
    demo,
    dispo,
    job_status,
    location,
    appointment_scheduled,
    demo_scheduled,
    email_match,
    phone_match,
    _extraction_date,
    _partition_date,
    conversion_rate,
    lead_quality_flag,
    lead_match_id
from gold.lead_quality_matching
where lead_uuid is null;

-- Grain: one row per snapshot day.
create or replace view gold.leads_per_day as
with lead_days as (
    select distinct
        _partition_date,
        lead_uuid
    from gold.lead_quality_matching
),

first_days as (
    select
        lead_uuid,
        min(_partition_date) as _partition_date
    from lead_days
    where lead_uuid is not null
    group by lead_uuid
)

select
    lead_days._partition_date,
    count(lead_days.lead_uuid) as total_leads,
    count(first_days.lead_uuid) as new_leads,
    sum(count(first_days.lead_uuid)) over (order by lead_days._partition_date)::bigint as cumulative_leads,
    lead_days._partition_date = min(lead_days._partition_date) over () as is_first_snapshot
from lead_days
left join first_days using (lead_uuid, _partition_date)
group by lead_days._partition_date;

-- Grain: one row per quality flag, including flags that do not occur.
create or replace view gold.lead_quality_distribution as
with flags (lead_quality_flag) as (
    values ('High Quality'::varchar(50)), ('Medium Quality'::varchar(50)), ('Low Quality'::varchar(50))
)

select
    flags.lead_quality_flag,
    count(distinct matching.lead_uuid) as lead_count,
    count(matching._partition_date) as row_count,
    (
        select count(*)
        from gold.lead_quality_current as leads_now
        where leads_now.lead_quality_flag = flags.lead_quality_flag
    ) as current_lead_count
from flags
left join gold.lead_quality_matching as matching using (lead_quality_flag)
group by flags.lead_quality_flag;

-- Grain: one row per snapshot day and quality flag, including flags that do not occur on the day.
create or replace view gold.lead_quality_per_day as
with flags (lead_quality_flag) as (
    values ('High Quality'::varchar(50)), ('Medium Quality'::varchar(50)), ('Low Quality'::varchar(50))
),

days as (
    select distinct _partition_date
    from gold.lead_quality_matching
)

select
    days._partition_date,
    flags.lead_quality_flag,
    count(distinct matching.lead_uuid) as lead_count,
    count(matching._partition_date) as row_count
from days
cross join flags
left join gold.lead_quality_matching as matching using (_partition_date, lead_quality_flag)
group by days._partition_date, flags.lead_quality_flag;

-- Grain: one row per snapshot day on which at least one lead has high quality for the first time.
create or replace view gold.new_high_quality_leads_per_day as
with first_high_quality_days as (
    select
        lead_uuid,
        min(_partition_date) as _partition_date
    from gold.lead_quality_matching
    where lead_quality_flag = 'High Quality' and lead_uuid is not null
    group by lead_uuid
)

select
    _partition_date,
    count(*) as new_high_quality_leads,
    _partition_date = (select min(matching._partition_date) from gold.lead_quality_matching as matching)
        as is_first_snapshot
from first_high_quality_days
group by _partition_date;

-- Grain: one row per suspect hash and column (kind) that contains it.
create or replace view gold.suspect_hashes as
with cells as (
    select
        matching.lead_number,
        cell.kind::varchar(10) as kind,
        silver.match_key(cell.hash)::varchar(255) as hash,
        case when cell.is_match then matching.lead_uuid end as lead_uuid
    from gold.lead_quality_matching as matching
    cross join lateral (
        values
        ('email', matching.email_hash, matching.email_match),
        ('phone', matching.phone_hash, matching.phone_match)
    ) as cell (kind, hash, is_match)
),

counted as (
    select
        hash,
        kind,
        count(distinct lead_number) as lead_number_count,
        count(distinct lead_uuid) as lead_uuid_count,
        count(*) as row_count,
        count(*) over (partition by hash) = 2 as in_both_columns,
        -- A person who asks again gets another lead number: two or three are usual.
        count(distinct lead_number) >= 5 as is_shared_by_many
    from cells
    where hash is not null
    group by hash, kind
)

select
    hash,
    kind,
    lead_number_count,
    lead_uuid_count,
    row_count,
    concat_ws(
        '; ',
        case when in_both_columns then 'in the e-mail and in the phone column: hash of a missing value' end,
        case when is_shared_by_many then format('shared by %s lead numbers', lead_number_count) end
    )::varchar(255) as reason
from counted
where in_both_columns or is_shared_by_many;

-- Grain: one row per row of gold.lead_quality_matching whose match relies on suspect hashes alone.
create or replace view gold.suspect_matches as
select
    matching.lead_uuid,
    matching.lead_number,
    matching.email_hash,
    matching.phone_hash,
    matching.email_match,
    matching.phone_match,
    matching._partition_date
from gold.lead_quality_matching as matching
left join gold.suspect_hashes as email
    on email.kind = 'email' and email.hash = silver.match_key(matching.email_hash)
left join gold.suspect_hashes as phone
    on phone.kind = 'phone' and phone.hash = silver.match_key(matching.phone_hash)
where
    matching.lead_uuid is not null
    and (not matching.email_match or email.hash is not null)
    and (not matching.phone_match or phone.hash is not null);

-- Grain: one row per snapshot day of gold. Key: _partition_date.
create or replace view gold.snapshots as
select
    partition_date as _partition_date,
    lag(partition_date) over (order by partition_date) as previous_snapshot,
    partition_date - lag(partition_date) over (order by partition_date) as days_since_previous
from meta.table_loads
where parent_table = 'gold.lead_quality_matching';

-- The one definition of a disposition group, and of the days on which a lead reached a stage for the first time.
-- Grain: one row per lead that a snapshot contains.
create or replace view gold.lead_outcomes as
with reached as (
    select
        lead_uuid,
        min(valid_from) filter (where set = 1 or appt_date is not null or demo = 1 or dispo = 'Sale') as appointment_day,
        min(valid_from) filter (where demo = 1 or dispo = 'Sale') as demo_day,
        min(valid_from) filter (where dispo = 'Sale') as sale_day
    from gold.lead_status_history
    group by lead_uuid
)

select
    leads.lead_uuid,
    leads.first_seen,
    snapshots.previous_snapshot as not_seen_on,
    leads.last_seen,
    reached.appointment_day,
    reached.demo_day,
    reached.sale_day,
    leads_now.appointment_scheduled,
    leads_now.demo_scheduled,
    leads_now.appt_date,
    leads_now.dispo,
    case when snapshots.previous_snapshot is not null then date_trunc('week', leads.first_seen)::date end as first_week,
    leads.last_seen < (select max(latest._partition_date) from gold.snapshots as latest) as has_left,
    case
        when leads_now.dispo = 'Sale' then 'sold'
        when leads_now.dispo ilike 'dq%' then 'disqualified'
        when leads_now.dispo in ('DNC', 'Do Not Contact') then 'do not contact'
        when leads_now.dispo ilike 'cxl%' then 'cancelled'
        when leads_now.demo_scheduled then 'demo without sale'
        when leads_now.appointment_scheduled or leads_now.appt_date is not null then 'appointment without demo'
        else 'no appointment'
    end::varchar(50) as disposition_group
from gold.leads as leads
inner join gold.lead_quality_current as leads_now using (lead_uuid)
inner join gold.snapshots as snapshots on leads.first_seen = snapshots._partition_date
left join reached using (lead_uuid);
