-- Matches staging.new_contents to leads: adds the matches to silver.version_matches, and the leads to meta.affected_leads. Drops
-- staging.new_contents.
--
-- Equivalent to a left join on e-mail key or phone key, which PostgreSQL can execute only as a nested loop. Two equi-joins are
-- executed as hash joins.

analyze staging.new_contents;

with matched as (
    select
        contents._row_hash,
        leads.lead_uuid,
        true as email_match,
        coalesce(leads.phone_key = contents.phone_key, false) as phone_match
    from staging.new_contents as contents
    inner join silver.matched_leads as leads using (email_key)
    union all
    select
        contents._row_hash,
        leads.lead_uuid,
        false as email_match,
        true as phone_match
    from staging.new_contents as contents
    inner join silver.matched_leads as leads using (phone_key)
    where not coalesce(leads.email_key = contents.email_key, false)
),

new_matches as (
    insert into silver.version_matches (_row_hash, lead_uuid, email_match, phone_match)
    select
        _row_hash,
        matched.lead_uuid,
        coalesce(matched.email_match, false) as email_match,
        coalesce(matched.phone_match, false) as phone_match
    from staging.new_contents
    left join matched using (_row_hash)
    returning lead_uuid
)

insert into meta.affected_leads (lead_uuid)
select distinct lead_uuid
from new_matches
where lead_uuid is not null;

drop table staging.new_contents;
analyze silver.version_matches (_row_hash, lead_uuid);
