-- Matches snapshot rows to leads and grades them, into {target}. Rows of one day make that day of gold.lead_quality_matching; the
-- spans of all days, which have more columns, become what the tables of leads are made from.
--
-- The rows are those of: snapshots left join leads on e-mail hash or phone hash, compared trimmed and in lower case; an empty
-- or NULL hash matches nothing. That literal join is a nested loop over all leads. Here nearly every row finds its lead by one
-- hash join, on the pair of its hashes as they stand; the literal OR is left for the others, each of which looks up its
-- leads by index. create_lead_lookups.sql has made the tables in which they are found.

insert into {target} (
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    appointment_scheduled, demo_scheduled, email_match, phone_match, _extraction_date, _partition_date, conversion_rate,
    lead_quality_flag{more}
)
with snapshots as (
    select *
    from ({rows}) as rows_to_match
),

matched as (
    select
        snapshots.*,
        coalesce(pairs.lead_uuid, others.lead_uuid) as lead_uuid,
        coalesce(pairs.lead_uuid is not null or others.email_match, false) as email_match,
        coalesce(pairs.lead_uuid is not null or others.phone_match, false) as phone_match
    from snapshots
    -- Keys are trimmed and in lower case, so a hash that equals one is, too.
    left join staging.lead_pairs as pairs
        on snapshots.email_hash = pairs.email_key and snapshots.phone_hash = pairs.phone_key
    left join lateral (
        select
            leads.lead_uuid,
            coalesce(key_of.email = leads.email_key, false) as email_match,
            coalesce(key_of.phone = leads.phone_key, false) as phone_match
        from (
            select
                lower(btrim(snapshots.email_hash, e' \t\n\r\f\x0b')) as email,
                lower(btrim(snapshots.phone_hash, e' \t\n\r\f\x0b')) as phone
        ) as key_of
        inner join staging.lead_keys as leads on key_of.email = leads.email_key or key_of.phone = leads.phone_key
        where pairs.lead_uuid is null
        -- Keeps this apart: a row that has found its pair does not come here.
        offset 0
    ) as others on true
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
    end as lead_quality_flag{more}
from matched;
