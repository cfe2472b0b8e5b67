-- Grain: one row per reason and step, the most frequent first.
select
    reason,
    step,
    count(*) as row_count,
    count(distinct _source_file) as file_count,
    min(_partition_date) as first_day,
    max(_partition_date) as last_day
from silver.rejected_rows
group by reason, step
order by row_count desc, reason asc;
