-- Grain: one row per run: the last ten runs, the latest first.
select
    run_id::text as run_id,
    started_at,
    ended_at,
    status,
    message,
    checks
from meta.pipeline_runs
order by started_at desc
limit 10;
