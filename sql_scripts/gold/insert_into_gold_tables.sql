-- gold.lead_quality_matching for one day: the snapshot rows of {partition_date}, matched and graded, go into {gold_day}.
--
-- The rows are those of: snapshots left join leads on e-mail hash or phone hash. Written as two equi-joins, because the
-- literal OR is a nested loop. Hashes compare trimmed and in lower case; an empty or NULL hash matches nothing: the tables
-- that create_lead_lookup.sql has made, in which the leads are looked up, have no such key.

insert into {gold_day} (
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    appointment_scheduled, demo_scheduled, email_match, phone_match, _extraction_date, _partition_date, conversion_rate,
    lead_quality_flag
)
with snapshots as (
    select
        *,
        lower(btrim(email_hash, e' \t\n\r\f\x0b')) as email_key,
        lower(btrim(phone_hash, e' \t\n\r\f\x0b')) as phone_key
    from silver.stg_csv_snapshots
    where _partition_date = {partition_date}
    -- So that the keys are made once a row, not at every use.
    offset 0 -- noqa: AM09
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
            p.lead is not null as phone_match
        where coalesce(e.lead = p.lead, e.leads is null and p.leads is null)
        union all
        -- Several leads: all that the e-mail finds, and all that the phone finds.
        select
            coalesce(by_email.lead_uuid, by_phone.lead_uuid) as lead_uuid,
            by_email.lead is not null as email_match,
            by_phone.lead is not null as phone_match
        from
            unnest(coalesce(e.leads, array[e.lead]), coalesce(e.lead_uuids, array[e.lead_uuid]))
                as by_email (lead, lead_uuid)
        full join
            unnest(coalesce(p.leads, array[p.lead]), coalesce(p.lead_uuids, array[p.lead_uuid]))
                as by_phone (lead, lead_uuid)
            using (lead)
        where not coalesce(e.lead = p.lead, e.leads is null and p.leads is null) and lead is not null
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
    coalesce(matched.set = 1, false) as appointment_scheduled,
    coalesce(demo = 1, false) as demo_scheduled,
    email_match,
    phone_match,
    _extraction_date,
    _partition_date,
    null as conversion_rate,
    case
        when matched.set = 1 and demo = 1 then 'High Quality'
        when matched.set = 1 then 'Medium Quality'
        else 'Low Quality'
    end as lead_quality_flag
from matched;
