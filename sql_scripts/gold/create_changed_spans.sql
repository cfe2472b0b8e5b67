-- staging.changed_spans: what the snapshot of {day} changes in staging.spans, which knows all days up to {day_before}.
-- take_out_spans.sql takes the spans of these rows away, insert_into_gold_tables.sql matches the rows anew into
-- staging.matched_spans, and put_in_spans.sql puts them in their place.
--
-- Grain: one row per distinct snapshot row that comes with this day, or was in the snapshot before and is gone. It has a number.

drop table if exists staging.changed_spans, staging.matched_spans;

create table staging.matched_spans (like staging.spans);

create table staging.changed_spans as
with latest as (
    select *
    from staging.spans
    where _partition_date = 'infinity'
),

-- Nearly all rows find their like. One join finds those that do not, on either side: in half the time that grouping them takes.
changed as (
    select
        coalesce(snapshot.lead_number, latest.lead_number) as lead_number,
        coalesce(snapshot.email_hash, latest.email_hash) as email_hash,
        coalesce(snapshot.phone_hash, latest.phone_hash) as phone_hash,
        coalesce(snapshot.city, latest.city) as city,
        coalesce(snapshot.state, latest.state) as state,
        coalesce(snapshot.zip, latest.zip) as zip,
        coalesce(snapshot.appt_date, latest.appt_date) as appt_date,
        coalesce(snapshot.appt_time, latest.appt_time) as appt_time,
        coalesce(snapshot.set, latest.set) as set,
        coalesce(snapshot.demo, latest.demo) as demo,
        coalesce(snapshot.dispo, latest.dispo) as dispo,
        coalesce(snapshot.job_status, latest.job_status) as job_status,
        coalesce(snapshot.location, latest.location) as location,
        coalesce(snapshot._partition_date, latest.first_day) as first_day,
        case when latest.first_day is null then 'infinity' else {day_before} end as _partition_date
    from (
        select *
        from silver.stg_csv_snapshots
        where _partition_date = {day}
    ) as snapshot
    full join latest
        on
            -- What can be hashed, for the join; NULL equals NULL below.
            coalesce(snapshot.lead_number, 0) = coalesce(latest.lead_number, 0)
            and coalesce(snapshot.email_hash, '') = coalesce(latest.email_hash, '')
            and coalesce(snapshot.phone_hash, '') = coalesce(latest.phone_hash, '')
            and coalesce(snapshot.city, '') = coalesce(latest.city, '')
            and coalesce(snapshot.zip, '') = coalesce(latest.zip, '')
            and coalesce(snapshot.appt_date, 'epoch') = coalesce(latest.appt_date, 'epoch')
            and coalesce(snapshot.dispo, '') = coalesce(latest.dispo, '')
            and coalesce(snapshot.job_status, '') = coalesce(latest.job_status, '')
            and (
                snapshot.lead_number, snapshot.email_hash, snapshot.phone_hash, snapshot.city, snapshot.state, snapshot.zip,
                snapshot.appt_date, snapshot.appt_time, snapshot.set, snapshot.demo, snapshot.dispo, snapshot.job_status,
                snapshot.location
            ) is not distinct from (
                latest.lead_number, latest.email_hash, latest.phone_hash, latest.city, latest.state, latest.zip,
                latest.appt_date, latest.appt_time, latest.set, latest.demo, latest.dispo, latest.job_status,
                latest.location
            )
    where snapshot._partition_date is null or latest.first_day is null
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
    _partition_date,
    row_number() over () as number
from changed
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
    location,
    _partition_date;

analyze staging.changed_spans;
