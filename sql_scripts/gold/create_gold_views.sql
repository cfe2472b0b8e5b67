-- Views over gold: each answers one question of the analysis. Safe to rerun. BI tools rely on names and columns: new ones
-- come last. Leads are counted by lead_uuid, so rows that match no backend lead count as rows only.

-- Grain: one row per scenario, also for one that does not occur.
create or replace view gold.match_scenarios as
with scenarios (scenario, email_match, phone_match) as (
    values
    ('both', true, true),
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

comment on view gold.match_scenarios is
'How did snapshot rows match backend leads? One row per scenario.';
comment on column gold.match_scenarios.scenario is
'both, email_only, phone_only or none: which hashes of the row are the lead''s.';
comment on column gold.match_scenarios.row_count is 'Rows of lead_quality_matching.';
comment on column gold.match_scenarios.lead_count is
'Distinct leads among them. A lead can match differently on other days, so the counts do not add up to all leads.';

-- Grain: as gold.lead_quality_matching.
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
    lead_quality_flag
from gold.lead_quality_matching
where lead_uuid is null;

comment on view gold.unmatched_snapshot_rows is
'Which rows have no backend lead? Rows of lead_quality_matching, with its columns; lead_uuid is NULL in all of them.';

do $$
declare
    described record;
begin
    for described in
        select attname, col_description(attrelid, attnum) as description
        from pg_attribute
        where
            attrelid = 'gold.lead_quality_matching'::regclass
            and attname in (select attname from pg_attribute where attrelid = 'gold.unmatched_snapshot_rows'::regclass)
            and attnum > 0
            and not attisdropped
    loop
        execute format(
            'comment on column gold.unmatched_snapshot_rows.%I is %L', described.attname, described.description
        );
    end loop;
end
$$;

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
    sum(count(first_days.lead_uuid)) over (order by lead_days._partition_date)::bigint as cumulative_leads
from lead_days
left join first_days using (lead_uuid, _partition_date)
group by lead_days._partition_date;

comment on view gold.leads_per_day is 'How many leads are in each snapshot, and how many of them never before? One row per day.';
comment on column gold.leads_per_day._partition_date is 'Day of the snapshot.';
comment on column gold.leads_per_day.total_leads is 'Distinct leads in the snapshot.';
comment on column gold.leads_per_day.new_leads is 'Of them, those that no earlier snapshot has.';
comment on column gold.leads_per_day.cumulative_leads is 'Distinct leads in this snapshot and all before it.';

-- Grain: one row per quality flag, also for one that does not occur.
create or replace view gold.lead_quality_distribution as
with flags (lead_quality_flag) as (
    values ('High Quality'::varchar(50)), ('Medium Quality'::varchar(50)), ('Low Quality'::varchar(50))
)

select
    flags.lead_quality_flag,
    count(distinct matching.lead_uuid) as lead_count,
    count(matching._partition_date) as row_count
from flags
left join gold.lead_quality_matching as matching using (lead_quality_flag)
group by flags.lead_quality_flag;

comment on view gold.lead_quality_distribution is 'How good are the leads, over all snapshots? One row per quality flag.';
comment on column gold.lead_quality_distribution.lead_quality_flag is 'High Quality, Medium Quality or Low Quality.';
comment on column gold.lead_quality_distribution.lead_count is
'Distinct leads that had this quality on any day. A lead that changed counts for each, so they do not add up to all leads.';
comment on column gold.lead_quality_distribution.row_count is 'Rows of lead_quality_matching.';

-- Grain: one row per snapshot day and quality flag that occurs on it.
create or replace view gold.lead_quality_per_day as
select
    _partition_date,
    lead_quality_flag,
    count(distinct lead_uuid) as lead_count,
    count(*) as row_count
from gold.lead_quality_matching
group by _partition_date, lead_quality_flag;

comment on view gold.lead_quality_per_day is 'How good are the leads, day by day? One row per day and quality flag.';
comment on column gold.lead_quality_per_day._partition_date is 'Day of the snapshot.';
comment on column gold.lead_quality_per_day.lead_quality_flag is 'High Quality, Medium Quality or Low Quality.';
comment on column gold.lead_quality_per_day.lead_count is 'Distinct leads with this quality in the snapshot.';
comment on column gold.lead_quality_per_day.row_count is 'Rows of lead_quality_matching.';

-- Grain: one row per snapshot day on which at least one lead is of high quality for the first time.
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
    count(*) as new_high_quality_leads
from first_high_quality_days
group by _partition_date;

comment on view gold.new_high_quality_leads_per_day is
'How many leads become high quality each day? A lead counts on its first High Quality day; a day without any has no row. '
'On the first day all that are of high quality count as new: leave it out of a trend.';
comment on column gold.new_high_quality_leads_per_day._partition_date is 'Day of the snapshot.';
comment on column gold.new_high_quality_leads_per_day.new_high_quality_leads is
'Distinct leads that are High Quality on this day and on no day before.';

-- Grain: one row per hash and column it stands in.
create or replace view gold.suspect_hashes as
with cells as (
    select
        'email' as kind,
        lower(btrim(email_hash, e' \t\n\r\f\x0b')) as hash,
        lead_number,
        case when email_match then lead_uuid end as lead_uuid
    from gold.lead_quality_matching
    union all
    select
        'phone' as kind,
        lower(btrim(phone_hash, e' \t\n\r\f\x0b')) as hash,
        lead_number,
        case when phone_match then lead_uuid end as lead_uuid
    from gold.lead_quality_matching
),

counted as (
    select
        hash,
        kind,
        count(distinct lead_number) as lead_number_count,
        count(distinct lead_uuid) as lead_uuid_count,
        count(*) as row_count
    from cells
    where hash <> ''
    group by hash, kind
),

judged as (
    select
        *,
        count(*) over (partition by counted.hash) = 2 as in_both_columns,
        -- The same person asking again gets another number: two or three are usual.
        lead_number_count >= 5 as is_shared_by_many
    from counted
)

select
    hash,
    kind,
    lead_number_count,
    lead_uuid_count,
    row_count,
    concat_ws(
        '; ',
        case when in_both_columns then 'stands in the e-mail and in the phone column: the hash of no value' end,
        case when is_shared_by_many then format('shared by %s lead numbers', lead_number_count) end
    ) as reason
from judged
where in_both_columns or is_shared_by_many;

comment on view gold.suspect_hashes is
'Which hashes match falsely? One row per kind and hash that stands in both columns, or that five or more lead numbers share.';
comment on column gold.suspect_hashes.hash is 'The hash, trimmed and in lower case, as it is matched.';
comment on column gold.suspect_hashes.kind is 'email or phone: the column that the counts are of.';
comment on column gold.suspect_hashes.lead_number_count is 'Distinct lead numbers that have it.';
comment on column gold.suspect_hashes.lead_uuid_count is 'Distinct backend leads that rows match on it.';
comment on column gold.suspect_hashes.row_count is 'Rows of lead_quality_matching that have it.';
comment on column gold.suspect_hashes.reason is 'By which rule it is suspect.';

-- Grain: as gold.lead_quality_matching: the rows whose match rests on suspect hashes alone.
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
    on email.kind = 'email' and email.hash = lower(btrim(matching.email_hash, e' \t\n\r\f\x0b'))
left join gold.suspect_hashes as phone
    on phone.kind = 'phone' and phone.hash = lower(btrim(matching.phone_hash, e' \t\n\r\f\x0b'))
where
    matching.lead_uuid is not null
    and (not matching.email_match or email.hash is not null)
    and (not matching.phone_match or phone.hash is not null);

comment on view gold.suspect_matches is
'Which matches rest on suspect hashes alone? Rows of lead_quality_matching; without those hashes this match would not be.';
comment on column gold.suspect_matches.lead_uuid is 'The lead that they match, most likely falsely.';
comment on column gold.suspect_matches.lead_number is 'Number of the lead in the CRM.';
comment on column gold.suspect_matches.email_hash is 'As in lead_quality_matching.';
comment on column gold.suspect_matches.phone_hash is 'As in lead_quality_matching.';
comment on column gold.suspect_matches.email_match is 'The row''s e-mail hash is the lead''s.';
comment on column gold.suspect_matches.phone_match is 'The row''s phone hash is the lead''s.';
comment on column gold.suspect_matches._partition_date is 'Day of the snapshot.';
