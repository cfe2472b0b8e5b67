-- gold.leads. Grain: one row per affected lead of the backend; NULLs for one that no snapshot has. unique_key: lead_uuid.

with backend_leads as (
    select distinct lead_uuid
    from silver.matched_leads
    inner join meta.affected_leads using (lead_uuid)
),

versions as (
    select *
    from staging.affected_versions
),

latest as (
    select distinct on (lead_uuid)
        *,
        min(valid_from) over (partition by lead_uuid) as first_seen
    from versions
    order by lead_uuid asc, last_seen desc, match_rank asc, lead_number asc, _row_hash asc
),

leads as (
    select * -- noqa: RF02
    from backend_leads
    left join latest using (lead_uuid)
)

select
    lead_uuid,
    {columns},
    first_seen,
    last_seen
from leads
