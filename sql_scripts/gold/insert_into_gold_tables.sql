-- gold.lead_quality_matching for one day: the snapshot rows of {partition_date}, matched and graded, go into {gold_day}.
--
-- The rows are those of: snapshots left join leads on e-mail hash or phone hash. Written as equi-joins, because the literal
-- OR is a nested loop. Hashes compare trimmed and in lower case; an empty or NULL hash matches nothing.

insert into {gold_day} (
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    appointment_scheduled, demo_scheduled, email_match, phone_match, _extraction_date, _partition_date, conversion_rate,
    lead_quality_flag
)
with snapshots as (
    select
        *,
        nullif(lower(btrim(email_hash, e' \t\n\r\f\x0b')), '') as email_key,
        nullif(lower(btrim(phone_hash, e' \t\n\r\f\x0b')), '') as phone_key
    from silver.stg_csv_snapshots
    where _partition_date = {partition_date}
),

leads as (
    select
        lead_uuid,
        nullif(lower(btrim(email_hash, e' \t\n\r\f\x0b')), '') as email_key,
        nullif(lower(btrim(phone_hash, e' \t\n\r\f\x0b')), '') as phone_key
    from silver.stg_leads_parquet
),

-- Rows whose e-mail is the lead's, whatever their phone.
email_matches as (
    select
        snapshots.*,
        leads.lead_uuid,
        true as email_match,
        coalesce(snapshots.phone_key = leads.phone_key, false) as phone_match
    from snapshots
    inner join leads on snapshots.email_key = leads.email_key
),

-- Rows whose phone is the lead's, but not their e-mail: the rest of the OR.
phone_only_matches as (
    select
        snapshots.*,
        leads.lead_uuid,
        false as email_match,
        true as phone_match
    from snapshots
    inner join leads on snapshots.phone_key = leads.phone_key
    where (snapshots.email_key = leads.email_key) is not true
),

-- Rows that match no lead: kept, for the left join.
unmatched as (
    select
        snapshots.*,
        null::varchar as lead_uuid,
        false as email_match,
        false as phone_match
    from snapshots
    where
        not exists (select from leads where leads.email_key = snapshots.email_key)
        and not exists (select from leads where leads.phone_key = snapshots.phone_key)
),

matched as (
    select * from email_matches
    union all
    select * from phone_only_matches
    union all
    select * from unmatched
)

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
    set is not distinct from 1 as appointment_scheduled,
    demo is not distinct from 1 as demo_scheduled,
    email_match,
    phone_match,
    _extraction_date,
    _partition_date,
    null as conversion_rate,
    case
        when set = 1 and demo = 1 then 'High Quality'
        when set = 1 then 'Medium Quality'
        else 'Low Quality'
    end as lead_quality_flag
from matched;
