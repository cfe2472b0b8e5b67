-- gold.lead_quality_matching for one day: the snapshot rows of {partition_date}, matched and graded, go into {gold_day}.
--
-- The rows are those of: snapshots left join leads on e-mail hash or phone hash. Written as two equi-joins, because the
-- literal OR is a nested loop. Hashes compare trimmed and in lower case; an empty or NULL hash matches nothing. The leads
-- are looked up in the tables that create_lead_lookup.sql has made.

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
    offset 0 -- so that the keys are made once a row, not at every use
),

matched as (
    select
        snapshots.*,
        matches.lead_uuid,
        matches.email_match,
        matches.phone_match
    from snapshots
    left join staging.leads_by_email as e using (email_key)
    left join staging.leads_by_phone as p using (phone_key)
    cross join lateral (
        -- One lead, found by e-mail, phone or both; or none: the row is kept all the same, for the left join.
        select
            coalesce(e.lead_uuid, p.lead_uuid) as lead_uuid,
            e.lead is not null as email_match,
            p.lead is not null and coalesce(e.lead = p.lead, true) as phone_match
        where e.leads is null and p.leads is null
        union all
        -- The e-mail is one lead's, the phone another's.
        select
            p.lead_uuid,
            false as email_match,
            true as phone_match
        where e.lead <> p.lead
        union all
        -- Several leads share the e-mail or the phone: all that the e-mail finds,
        select
            by_email.lead_uuid,
            true as email_match,
            coalesce(by_email.lead = any(coalesce(p.leads, array[p.lead])), false) as phone_match
        from unnest(coalesce(e.leads, array[e.lead]), coalesce(e.lead_uuids, array[e.lead_uuid]))
            as by_email (lead, lead_uuid)
        where (e.leads is not null or p.leads is not null) and by_email.lead is not null
        union all
        -- and all that only the phone finds.
        select
            by_phone.lead_uuid,
            false as email_match,
            true as phone_match
        from unnest(coalesce(p.leads, array[p.lead]), coalesce(p.lead_uuids, array[p.lead_uuid]))
            as by_phone (lead, lead_uuid)
        where
            (e.leads is not null or p.leads is not null)
            and by_phone.lead is not null
            and (by_phone.lead = any(coalesce(e.leads, array[e.lead]))) is not true
    ) as matches
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
