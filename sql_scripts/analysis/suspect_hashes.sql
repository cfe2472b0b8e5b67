-- Grain: one row per hash and column that contains it, the most frequent first.
select * -- noqa: AM04
from gold.suspect_hashes
order by row_count desc, hash asc, kind asc;
