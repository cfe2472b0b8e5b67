-- The leads as step 6 looks them up by {key}: {lookup}. Kept from run to run, until the leads change.
--
-- Grain: one row per key. A key of one lead has `lead` and `lead_uuid`; a key that several leads share has `leads` and
-- `lead_uuids` instead. create_lead_keys.sql says what a key is, and a `lead`.

drop table if exists {lookup};

create table {lookup} as
with keys as (
    select
        {key},
        count(*) as lead_count,
        min(lead) as lead,
        min(lead_uuid) as lead_uuid
    from staging.lead_keys
    where {key} is not null
    group by {key}
),

shared as (
    select
        lead_keys.{key},
        array_agg(lead_keys.lead) as leads,
        array_agg(lead_keys.lead_uuid) as lead_uuids
    from staging.lead_keys
    inner join keys using ({key})
    where keys.lead_count > 1
    group by lead_keys.{key}
)

select
    keys.{key},
    case when keys.lead_count = 1 then keys.lead end as lead,
    case when keys.lead_count = 1 then keys.lead_uuid end as lead_uuid,
    shared.leads,
    shared.lead_uuids
from keys
left join shared using ({key});

-- Tells the planner that a key stands there once, and how many there are: else it would sort the snapshots.
create unique index on {lookup} ({key});
