-- gold.lead_quality_matching, the rows of one day. {snapshot} is the day's partition of silver.stg_csv_snapshots.
-- Grain: one row per snapshot row and lead that it matches; one with NULL lead_uuid when it matches none.

with snapshots as (
    select *
    from {snapshot} as snapshot -- noqa: AL05
),

matches as (
    select *
    from silver.version_matches
),

matched as (
    select
        snapshots.*,
        matches.lead_uuid,
        matches.email_match,
        matches.phone_match
    from snapshots
    inner join matches using (_row_hash)
)

select
    lead_uuid,
    {trimmed_columns},
    email_match,
    phone_match,
    _extraction_date,
    _partition_date,
    {grade}
from matched
