-- Grain: one row per pair of dispositions before and after a change, the most frequent first.
select
    dispo_before,
    dispo,
    count(*) as change_count,
    count(distinct lead_uuid) as lead_count
from gold.status_changes
where dispo is distinct from dispo_before
group by dispo_before, dispo
order by change_count desc, dispo_before asc, dispo asc;
