-- staging.affected_versions: the row versions from which the tables of leads are built.
-- Grain: one row per affected lead, row version that matches it, and matching row of silver.matched_leads. No key.

with affected_leads as (
    select *
    from staging.affected_leads
),

matches as (
    select *
    from silver.version_matches
),

contents as (
    select *
    from silver.row_contents
),

-- The last snapshot of a version is the one before valid_to; of an open version, the latest of all.
last_days as (
    select
        _partition_date as last_seen,
        _extraction_date,
        coalesce(lead(_partition_date) over (order by _partition_date), 'infinity') as valid_to
    from silver.versioned_days
),

versions as (
    select
        contents._row_hash,
        {trimmed_columns}, -- noqa: RF02
        matches.lead_uuid,
        matches.email_match,
        matches.phone_match,
        contents.appt_date + coalesce(contents.appt_time, '00:00') as appointment_date,
        unnest(contents.valid_during) as period
    from affected_leads
    inner join matches using (lead_uuid)
    inner join contents using (_row_hash)
)

select
    versions.*, -- noqa: AM04
    last_days.last_seen,
    last_days._extraction_date,
    -- The lowest rank is chosen if several rows of a lead compete on a day: both hashes, then e-mail only, then phone only.
    case when versions.email_match and versions.phone_match then 1 when versions.email_match then 2 else 3 end as match_rank
from versions
inner join last_days on coalesce(upper(versions.period), 'infinity') = last_days.valid_to
