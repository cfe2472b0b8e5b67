-- Grain: one row per warning of the latest run that ended (meta.pipeline_runs.checks).
select findings.finding
from (
    select runs.checks
    from meta.pipeline_runs as runs
    where runs.ended_at is not null
    order by runs.started_at desc
    limit 1
) as latest
cross join jsonb_array_elements_text(latest.checks) as findings (finding);
