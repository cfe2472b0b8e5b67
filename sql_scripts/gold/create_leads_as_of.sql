-- gold.leads_as_of(day): the leads as of the snapshot of a day. Safe to rerun.
--
-- It reads gold, not silver.row_contents, which step 6 commits day by day before it publishes gold.

-- Grain: one row per lead_uuid of the backend; a lead that no snapshot contains up to the day has NULLs.
create or replace function gold.leads_as_of(day date) returns setof gold.leads
language sql stable parallel safe
as $$
    with seen as (
        select
            lead_uuid,
            min(_partition_date) as first_seen,
            max(_partition_date) as last_seen
        from gold.lead_quality_matching
        where _partition_date <= leads_as_of.day and lead_uuid is not null
        group by lead_uuid
    ),

    -- Chooses among competing rows as lead_quality_current.sql does: lead_match_id has the order of _row_hash.
    latest as (
        select distinct on (lead_uuid) *
        from gold.lead_quality_matching
        inner join seen using (lead_uuid)
        where _partition_date = last_seen and _partition_date <= leads_as_of.day
        order by lead_uuid, email_match and phone_match desc, email_match desc, lead_number, lead_match_id
    )

    select {columns}
    from (select lead_uuid from gold.leads) as backend_leads
    left join latest using (lead_uuid)
$$;

comment on function gold.leads_as_of(date) is
'The leads as of the snapshot of a day, or of the latest one before it: one row per lead_uuid, with the columns of gold.leads. '
'The values are those of a warehouse loaded up to that day from today''s files, corrections included. '
'Leads first seen later have NULLs. '
'Example: select * from gold.leads_as_of(''2024-10-09'')';
