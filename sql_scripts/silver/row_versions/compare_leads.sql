-- Updates silver.matched_leads, the leads from which silver.version_matches was built, to match silver.stg_leads_parquet. Deletes
-- the matches of contents with a key of a changed lead, and creates staging.new_contents with these contents, for
-- match_contents.sql. Marks the days of gold.lead_quality_matching that have such a content as outdated: their built_from is
-- emptied. Adds the changed leads, and the leads of deleted matches, to meta.affected_leads.

-- Grain: one row per combination of lead_uuid, e-mail key and phone key that occurs more or less often than before.
create table staging.changed_leads as
with counted as (
    select
        lead_uuid,
        silver.match_key(email_hash) as email_key,
        silver.match_key(phone_hash) as phone_key,
        1 as difference
    from silver.stg_leads_parquet
    where lead_uuid is not null
    union all
    select
        lead_uuid,
        email_key,
        phone_key,
        -1 as difference
    from silver.matched_leads
)

select
    lead_uuid,
    email_key,
    phone_key
from counted
group by lead_uuid, email_key, phone_key
having sum(difference) <> 0;

delete from silver.matched_leads
where lead_uuid in (select changed.lead_uuid from staging.changed_leads as changed);

insert into silver.matched_leads (lead_uuid, email_key, phone_key)
select
    lead_uuid,
    silver.match_key(email_hash) as email_key,
    silver.match_key(phone_hash) as phone_key
from silver.stg_leads_parquet
where lead_uuid in (select changed.lead_uuid from staging.changed_leads as changed);

analyze staging.changed_leads, silver.matched_leads;

create table staging.new_contents as
with contents as (
    select
        _row_hash,
        silver.match_key(email_hash) as email_key,
        silver.match_key(phone_hash) as phone_key
    from silver.row_contents
)

select *
from contents
where
    email_key in (select changed_leads.email_key from staging.changed_leads)
    or phone_key in (select changed_leads.phone_key from staging.changed_leads);

analyze staging.new_contents;

update meta.table_loads
set built_from = array[]::bigint[]
where
    parent_table = 'gold.lead_quality_matching'
    and partition_date <@ (
        select range_agg(contents.valid_during)
        from silver.row_contents as contents
        inner join staging.new_contents using (_row_hash)
    );

with deleted_matches as (
    delete from silver.version_matches as known
    using staging.new_contents
    where known._row_hash = new_contents._row_hash
    returning known.lead_uuid
)

insert into meta.affected_leads (lead_uuid)
select lead_uuid
from deleted_matches
where lead_uuid is not null
union
select lead_uuid
from staging.changed_leads;

drop table staging.changed_leads;
