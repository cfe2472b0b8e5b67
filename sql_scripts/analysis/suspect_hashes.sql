-- Grain: one row per hash and column it stands in, the one in the most rows first.
select * -- noqa: AM04
from gold.suspect_hashes
order by row_count desc, hash asc, kind asc;
