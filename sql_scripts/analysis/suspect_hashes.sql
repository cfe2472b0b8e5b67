-- Grain: one row per suspect hash and column (kind) that contains it, the most frequent first.
select * -- noqa: AM04
from gold.suspect_hashes
order by row_count desc, hash asc, kind asc;
