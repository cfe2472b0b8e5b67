-- Grain: one row. Number of matches that rely on suspect hashes alone, and of their leads.
select
    count(*) as row_count,
    count(distinct lead_uuid) as lead_count
from gold.suspect_matches;
