-- gold.lead_quality_matching, the rows of one day. {snapshot} is the day's partition of silver.stg_csv_snapshots.
-- Grain: one row per snapshot row and lead that it matches; one with NULL lead_uuid if it matches none.
-- unique_key: _partition_date, lead_match_id. The same rows get the same ids, however often they are built.

with snapshots as (
    select *
    from {snapshot} as snapshot -- noqa: AL05
),

matches as (
    select *
    from silver.version_matches
)

select
    matches.lead_uuid,
    {trimmed_columns}, -- noqa: RF02
    matches.email_match,
    matches.phone_match,
    snapshots._extraction_date,
    snapshots._partition_date,
    {grade},
    row_number() over (order by _row_hash, lead_uuid collate "C", email_match, phone_match) as lead_match_id -- noqa: RF02
from snapshots
inner join matches using (_row_hash)
