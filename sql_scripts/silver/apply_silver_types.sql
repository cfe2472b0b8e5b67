-- Silver's types for one day, {partition_date}: cleaned text from {cleaned_day} goes into {silver_day}, a partition of the typed
-- silver.stg_csv_snapshots. Texts are not cast but assigned, because a cast would cut a value that is too long in silence.

insert into {silver_day} (
    entry_date, lead_number, email_hash, phone_hash, city, state, zip, appt_date, appt_time,
    set, demo, dispo, job_status, location, _extraction_date, _partition_date
)
select
    entry_date::date,
    lead_number::int,
    email_hash,
    phone_hash,
    city,
    state,
    zip,
    appt_date::timestamp,
    appt_time::time,
    set::int,
    demo::int,
    dispo,
    job_status,
    location,
    _extraction_date::date,
    {partition_date}
from {cleaned_day};
