-- Grain: one row per run: the last ten runs, the latest first. reads_files: it includes step 2; publishes: it includes step 6.
select
    run_id::text as run_id,
    started_at,
    ended_at,
    status,
    message,
    checks,
    coalesce(arguments -> 'steps' @> '2', true) as reads_files,
    coalesce(arguments -> 'steps' @> '6', true) as publishes
from meta.pipeline_runs
order by started_at desc
limit 10;
