-- Grain: one row. Matches that rely on suspect hashes alone.
select
    count(*) as row_count,
    count(distinct lead_uuid) as lead_count
from gold.suspect_matches;
