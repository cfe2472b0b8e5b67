-- Grain: one row per hash and column it stands in, the one in the most rows first.
select
    hash,
    kind,
    lead_number_count,
    lead_uuid_count,
    row_count,
    reason
from gold.suspect_hashes
order by row_count desc, hash asc, kind asc;
