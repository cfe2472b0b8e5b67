-- Grain: one row per snapshot day of silver: number of rows, and of non-NULL values per column.
select
    _partition_date,
    count(*) as row_count,
    count(entry_date) as entry_date,
    count(lead_number) as lead_number,
    count(email_hash) as email_hash,
    count(phone_hash) as phone_hash,
    count(city) as city,
    count(state) as state,
    count(zip) as zip,
    count(appt_date) as appt_date,
    count(appt_time) as appt_time,
    count(set) as set,
    count(demo) as demo,
    count(dispo) as dispo,
    count(job_status) as job_status,
    count(location) as location
from silver.stg_csv_snapshots
group by _partition_date
order by _partition_date;
