-- Grain: one row per disposition before and after a change of it, the most frequent first.
with periods as (
    select
        lead_uuid,
        dispo,
        lag(dispo) over lead_number as dispo_before,
        row_number() over lead_number > 1 as is_change
    from gold.lead_status_history
    window lead_number as (partition by lead_uuid, lead_number order by valid_from)
)

select
    dispo_before,
    dispo,
    count(*) as change_count,
    count(distinct lead_uuid) as lead_count
from periods
where is_change and dispo is distinct from dispo_before
group by dispo_before, dispo
order by change_count desc, dispo_before asc, dispo asc;
