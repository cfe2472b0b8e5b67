-- {changed}: what the snapshot of {day} changes in {spans}, piece {piece} of staging.spans, which knows all days up to
-- {day_before}. insert_into_gold_tables.sql matches them into {matched}; replace_spans.sql puts them in their place.
--
-- Grain: one row per distinct snapshot row that comes with this day, or was in the snapshot before and is gone.

drop table if exists {changed}, {matched};

create table {matched} (like staging.spans);

create table {changed} as
with snapshot_rows as (
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
        first_day,
        _partition_date = 'infinity' as is_in_latest,
        false as is_in_new
    from {spans}
    union all
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
        {day} as first_day,
        false as is_in_latest,
        true as is_in_new
    from silver.stg_csv_snapshots
    where _partition_date = {day} and abs(mod(coalesce(lead_number, 0), {pieces})) = {piece}
)

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
    min(first_day) as first_day,
    case when bool_or(is_in_new) then 'infinity' else {day_before} end as _partition_date
from snapshot_rows
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
having bool_or(is_in_new) <> bool_or(is_in_latest);

analyze {changed};
