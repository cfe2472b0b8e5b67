"""Queries of `duckdb_peer`, and columns and keys of its tables in PostgreSQL."""

from __future__ import annotations

# Cells of the CSV files as text, with the column names of bronze, for any of the headers. Dialect and types are
# specified, so that only the header is sniffed.
BRONZE_SNAPSHOTS = """
create table csv_snapshots as
select
    "ENTRYDATE", "LEADNUMBER", email_hash, phone_hash, coalesce("CITY", "CityName") as "CITY", "STATE", "ZIP",
    "Appt Date" as "APPT_DATE", "Set", "Demo", "Dispo", "Job Status" as "JOB_STATUS", location,
    strftime(current_date, '%Y-%m-%d') as _extraction_date,
    strftime(
        getvariable('first_day') + cast(regexp_extract(filename, '([0-9]+)\\.csv$', 1) as int) - 1, '%Y-%m-%d'
    ) as _partition_date,
    filename as _source_file
from read_csv(
    getvariable('snapshots'), header = true, all_varchar = true, union_by_name = true, filename = true,
    delim = ',', quote = '"', escape = '"', sample_size = 1
)
"""

BRONZE_LEADS = """
create table leads_parquet as
select "lead_UUID", phone_hash, email_hash, strftime(current_date, '%Y-%m-%d') as _extraction_date
from read_parquet(getvariable('leads'))
"""

MACROS = """
create macro known(cell) as
    case when trim(cell) not in ('', 'nan', 'None', '<NA>', 'NaT') then cell end;
create macro usps_state(code) as
    case when code in (
        'AL', 'AK', 'AZ', 'AR', 'CA', 'CO', 'CT', 'DE', 'FL', 'GA', 'HI', 'ID', 'IL', 'IN', 'IA', 'KS', 'KY', 'LA',
        'ME', 'MD', 'MA', 'MI', 'MN', 'MS', 'MO', 'MT', 'NE', 'NV', 'NH', 'NJ', 'NM', 'NY', 'NC', 'ND', 'OH', 'OK',
        'OR', 'PA', 'RI', 'SC', 'SD', 'TN', 'TX', 'UT', 'VT', 'VA', 'WA', 'WV', 'WI', 'WY', 'DC', 'AS', 'GU', 'MP',
        'PR', 'VI'
    ) then code end;
create macro flag(word) as
    case word when '0' then 0 when '1' then 1 when 'False' then 0 when 'True' then 1 end;
create macro day_of(moment) as
    try_strptime(left(moment, 10), ['%m/%d/%Y', '%Y-%m-%d', '%d-%m-%Y']);
create macro time_of(moment) as
    cast(try_strptime(trim(substr(moment, 11)), ['%I:%M%p', '%H:%M', '%H:%M:%S']) as time);
"""

# False for separator rows, and for the invalid rows that the pipeline quarantines.
IS_A_LEAD = """
    coalesce("LEADNUMBER", '') <> '-----' and coalesce(trim("APPT_DATE"), '') <> 'nu'
"""

SILVER_SNAPSHOTS = f"""
create table stg_csv_snapshots as
select
    cast(day_of(trim(known("ENTRYDATE"))) as date) as entry_date,
    cast(known("LEADNUMBER") as int) as lead_number,
    known(email_hash) as email_hash,
    known(phone_hash) as phone_hash,
    known("CITY") as city,
    coalesce(usps_state(trim("STATE")), usps_state(trim(split_part(location, '|', 2)))) as state,
    nullif(regexp_extract(trim("ZIP"), '^0*([0-9]{{5}})(-[0-9]{{4}})?$', 1), '') as zip,
    day_of(trim(known("APPT_DATE"))) as appt_date,
    time_of(trim(known("APPT_DATE"))) as appt_time,
    flag(trim("Set")) as set,
    flag(trim("Demo")) as demo,
    known("Dispo") as dispo,
    known("JOB_STATUS") as job_status,
    trim(known(location)) as location,
    cast(_extraction_date as date) as _extraction_date,
    cast(_partition_date as date) as _partition_date
from csv_snapshots
where {IS_A_LEAD}
"""  # noqa: S608 - no value comes from outside

SILVER_LEADS = """
create table stg_leads_parquet as
select distinct
    "lead_UUID" as lead_uuid,
    lower(trim(phone_hash)) as phone_hash,
    lower(trim(email_hash)) as email_hash,
    cast(_extraction_date as date) as _extraction_date
from leads_parquet
where known("lead_UUID") is not null and known(phone_hash) is not null and known(email_hash) is not null
"""

# A left join on e-mail or phone, as equi-joins: a join with OR would be a nested loop. Valid in DuckDB and PostgreSQL.
MATCHED_ROWS = """
with snapshots as not materialized (
    select
        *,
        nullif(lower(trim(email_hash)), '') as email_key,
        nullif(lower(trim(phone_hash)), '') as phone_key
    from stg_csv_snapshots
),

matched as (
    select snapshots.*, lead_uuid, true as email_match, coalesce(phone_key = leads.phone_hash, false) as phone_match
    from snapshots inner join stg_leads_parquet as leads on email_key = leads.email_hash
    union all
    select snapshots.*, lead_uuid, false as email_match, true as phone_match
    from snapshots inner join stg_leads_parquet as leads
        on phone_key = leads.phone_hash and email_key is distinct from leads.email_hash
    union all
    select snapshots.*, null as lead_uuid, false as email_match, false as phone_match
    from snapshots
    where
        not exists (select 1 from stg_leads_parquet as leads where email_key = leads.email_hash)
        and not exists (select 1 from stg_leads_parquet as leads where phone_key = leads.phone_hash)
)
"""

GOLD_COLUMNS = """
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    matched.set is not distinct from 1 as appointment_scheduled,
    demo is not distinct from 1 as demo_scheduled,
    email_match, phone_match, _extraction_date, _partition_date,
    cast(null as double precision) as conversion_rate,
    case
        when matched.set = 1 and demo = 1 then 'High Quality'
        when matched.set = 1 then 'Medium Quality'
        else 'Low Quality'
    end as lead_quality_flag
"""

GOLD_MATCHING = f"{MATCHED_ROWS} select {GOLD_COLUMNS} from matched"  # noqa: S608 - no value comes from outside

# Input of the tables of leads: the rows of `lead_quality_matching`, with the time of the appointment.
GOLD_ROWS = f"create table gold_rows as {MATCHED_ROWS} select {GOLD_COLUMNS}, appt_time from matched"  # noqa: S608

# Per lead, a row of its latest day: a match by both hashes before e-mail before phone, then the lowest lead number.
GOLD_CURRENT = """
create table lead_quality_current as
with latest_days as (
    select lead_uuid, max(_partition_date) as _partition_date
    from gold_rows
    where lead_uuid is not null
    group by lead_uuid
)

select * exclude (appt_time)
from gold_rows
inner join latest_days using (lead_uuid, _partition_date)
qualify row_number() over (
    partition by lead_uuid order by email_match and phone_match desc, email_match desc, lead_number
) = 1
"""

GOLD_LEADS = """
create table leads as
with seen as (
    select lead_uuid, min(_partition_date) as first_seen, max(_partition_date) as last_seen
    from gold_rows
    where lead_uuid is not null
    group by lead_uuid
)

select
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    first_seen, last_seen
from (select distinct lead_uuid from stg_leads_parquet) as backend_leads
left join (
    select * exclude (_extraction_date, _partition_date) from lead_quality_current
) as latest using (lead_uuid)
left join seen using (lead_uuid)
"""

GOLD_APPOINTMENTS = """
create table appointments as
with shown as (
    select
        *,
        cast(appt_date as date) + coalesce(appt_time, time '00:00') as appointment_date,
        min(_partition_date) over (partition by lead_uuid, appointment_date) as first_day
    from gold_rows
    where lead_uuid is not null and appt_date is not null
),

latest as (
    select lead_uuid, appointment_date, first_day, dispo as status
    from shown
    qualify row_number() over (
        partition by lead_uuid, appointment_date
        order by _partition_date desc, email_match and phone_match desc, email_match desc, lead_number
    ) = 1
)

select
    cast(row_number() over (order by first_day, appointment_date, lead_uuid) as int) as appointment_id,
    lead_uuid, appointment_date, status,
    cast(null as int) as user_id
from latest
"""

# A period begins where the status differs from that of the lead number's previous row. A missing day is no change.
GOLD_HISTORY = """
create table lead_status_history as
with daily as (
    select lead_uuid, lead_number, dispo, job_status, set, demo, appt_date, _partition_date
    from gold_rows
    where lead_uuid is not null
    qualify row_number() over (
        partition by lead_uuid, lead_number, _partition_date
        order by email_match and phone_match desc, email_match desc
    ) = 1
),

changes as (
    select *, row(dispo, job_status, daily.set, demo, appt_date) as status
    from daily
    window lead_days as (partition by lead_uuid, lead_number order by _partition_date)
    qualify
        lag(_partition_date) over lead_days is null
        or status is distinct from lag(status) over lead_days
)

select
    lead_uuid, lead_number, dispo, job_status, set, demo, appt_date,
    _partition_date as valid_from,
    lead(_partition_date) over (partition by lead_uuid, lead_number order by _partition_date) as valid_to,
    valid_to is null as is_current
from changes
"""

BRONZE_AND_SILVER = {"bronze": (BRONZE_SNAPSHOTS, BRONZE_LEADS), "silver": (SILVER_SNAPSHOTS, SILVER_LEADS)}
QUERIES = {
    **BRONZE_AND_SILVER,
    # A view, so that the rows go directly from the join into the COPY.
    "gold": (f"create view lead_quality_matching as {GOLD_MATCHING}",),
}
QUERIES_OF_ALL_TABLES = {
    **BRONZE_AND_SILVER,
    "gold": (GOLD_ROWS, "create view lead_quality_matching as select * exclude (appt_time) from gold_rows"),
    "leads": (GOLD_CURRENT, GOLD_LEADS, GOLD_APPOINTMENTS, GOLD_HISTORY),
}
"""Queries by group of tables. A group is written while the next one is computed."""

# As in the pipeline, but varchar(2): with char(2), the postgres extension uses text COPY, which is twice as slow.
LEAD_COLUMNS = """
    lead_number int, email_hash varchar(255), phone_hash varchar(255), city varchar(100), state varchar(2),
    zip varchar(10), appt_date timestamp, set int, demo int, dispo varchar(50), job_status varchar(100),
    location varchar(255)
"""
MATCHING_COLUMNS = f"""
    lead_uuid varchar(255), {LEAD_COLUMNS}, appointment_scheduled boolean, demo_scheduled boolean, email_match boolean,
    phone_match boolean, _extraction_date date, _partition_date date, conversion_rate float,
    lead_quality_flag varchar(50)
"""
TABLES = {
    "bronze": {
        "bronze.csv_snapshots": """
            "ENTRYDATE" text, "LEADNUMBER" text, email_hash text, phone_hash text, "CITY" text, "STATE" text,
            "ZIP" text, "APPT_DATE" text, "Set" text, "Demo" text, "Dispo" text, "JOB_STATUS" text, location text,
            _extraction_date text, _partition_date text, _source_file text
        """,
        "bronze.leads_parquet": '"lead_UUID" text, phone_hash text, email_hash text, _extraction_date text',
    },
    "silver": {
        "silver.stg_csv_snapshots": """
            entry_date date, lead_number int, email_hash varchar(255), phone_hash varchar(255), city varchar(100),
            state varchar(2), zip varchar(10), appt_date timestamp, appt_time time, set int, demo int,
            dispo varchar(50), job_status varchar(100), location varchar(255), _extraction_date date,
            _partition_date date
        """,
        "silver.stg_leads_parquet": """
            lead_uuid varchar(255), phone_hash varchar(255), email_hash varchar(255), _extraction_date date
        """,
    },
    "gold": {"gold.lead_quality_matching": MATCHING_COLUMNS},
    "leads": {
        "gold.leads": f"lead_uuid varchar(255), {LEAD_COLUMNS}, first_seen date, last_seen date",
        "gold.lead_quality_current": MATCHING_COLUMNS,
        "gold.appointments": """
            appointment_id int, lead_uuid varchar(255), appointment_date timestamp, status varchar(50), user_id int
        """,
        "gold.lead_status_history": """
            lead_uuid varchar(255), lead_number int, dispo varchar(50), job_status varchar(100), set int, demo int,
            appt_date timestamp, valid_from date, valid_to date, is_current boolean
        """,
    },
}
"""Columns of the tables in PostgreSQL, by group. In DuckDB, tables have the same names without a schema."""

# Keys are created after loading, as usual for bulk loads.
KEYS = {
    "leads": (
        "alter table gold.leads add primary key (lead_uuid)",
        "alter table gold.lead_quality_current add primary key (lead_uuid)",
        "alter table gold.appointments add primary key (appointment_id)",
        "alter table gold.lead_quality_current add foreign key (lead_uuid) references gold.leads",
        "alter table gold.appointments add foreign key (lead_uuid) references gold.leads",
    )
}
