-- The snapshot rows of one day, to be matched by insert_into_gold_tables.sql.

select
    lead_number,
    email_hash,
    phone_hash,
    city,
    state,
    zip,
    appt_date,
    set,
    demo,
    dispo,
    job_status,
    location,
    _extraction_date,
    _partition_date
from silver.stg_csv_snapshots
where _partition_date = {partition_date}
