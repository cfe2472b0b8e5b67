-- Grain: one row. Number of distinct values per column of silver.stg_csv_snapshots.
select
    count(distinct entry_date) as entry_date,
    count(distinct lead_number) as lead_number,
    count(distinct email_hash) as email_hash,
    count(distinct phone_hash) as phone_hash,
    count(distinct city) as city,
    count(distinct state) as state,
    count(distinct zip) as zip,
    count(distinct appt_date) as appt_date,
    count(distinct appt_time) as appt_time,
    count(distinct set) as set,
    count(distinct demo) as demo,
    count(distinct dispo) as dispo,
    count(distinct job_status) as job_status,
    count(distinct location) as location
from silver.stg_csv_snapshots;
