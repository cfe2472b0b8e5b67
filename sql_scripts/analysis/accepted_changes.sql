-- Grain: one row per metric and day from which its new level is accepted as normal.
select
    metric,
    since,
    note
from meta.accepted_changes
order by since, metric;
