-- Grain: one row per run: the last ten, and the last ten that read files (step 2) or publish gold (step 6), the latest first.
with runs as (
    select
        *,
        coalesce(arguments -> 'steps' @> '2', true) as reads_files,
        coalesce(arguments -> 'steps' @> '6', true) as publishes
    from meta.pipeline_runs
),

numbered as (
    select
        *,
        row_number() over (order by started_at desc) as number,
        row_number() over (partition by reads_files order by started_at desc) as reading_number,
        row_number() over (partition by publishes order by started_at desc) as publishing_number
    from runs
)

select
    run_id::text as run_id,
    started_at,
    ended_at,
    status,
    message,
    checks,
    reads_files,
    publishes
from numbered
where number <= 10 or (reads_files and reading_number <= 10) or (publishes and publishing_number <= 10)
order by started_at desc;
