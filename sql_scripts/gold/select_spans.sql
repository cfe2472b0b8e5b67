-- The spans of all days, piece {piece} of staging.spans, to be matched by insert_into_gold_tables.sql. Grain: one row per
-- distinct snapshot row. {last_day} is the latest snapshot.

select
    lead_number,
    email_hash,
    phone_hash,
    city,
    state,
    zip,
    appt_date,
    appt_time,
    set,
    demo,
    dispo,
    job_status,
    location,
    null::date as _extraction_date,
    min(_partition_date) as first_day,
    case when max(_partition_date) = {last_day} then 'infinity' else max(_partition_date) end as _partition_date
from silver.stg_csv_snapshots
where abs(mod(coalesce(lead_number, 0), {pieces})) = {piece}
group by
    lead_number,
    email_hash,
    phone_hash,
    city,
    state,
    zip,
    appt_date,
    appt_time,
    set,
    demo,
    dispo,
    job_status,
    location
