"""The same job in DuckDB: 22 CSVs and a parquet from S3 into bronze, silver and gold of a PostgreSQL database.

What somebody who knows DuckDB well would write instead of the pipeline: everything is computed in DuckDB, vectorised
and on all cores, and each table goes to PostgreSQL by one binary COPY, into a table created in the same transaction.
The three layers are written at the same time, since one COPY keeps only one core of the server busy.

By default gold has only `lead_quality_matching`. With `--all-tables`, the script does the same work as the pipeline: it
also writes `leads`, `lead_quality_current`, `appointments` and `lead_status_history` (specification, §8), with their
primary and foreign keys. With `--gold-in-postgres`, `lead_quality_matching` is an `insert … select` from silver inside
PostgreSQL.

It has the rows, the columns and the types of the pipeline, and none of its guarantees: no lineage but the file name, no
quarantine, no partitions, nothing incremental. Every run drops the tables and creates them again.

Settings come from the environment, under the names that the pipeline uses. Prints its row counts as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

EXTENSIONS = ("httpfs", "postgres_scanner")

# Text cells of the CSVs under one name each, whatever the file's header says. Dialect and types are given, so that
# nothing is sniffed but the header.
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

# False for separators, and for the broken export rows that the pipeline quarantines.
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

# The rows of the left join on e-mail OR phone, as equi-joins: the OR itself is a nested loop. Read by both databases.
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

# What the tables of leads are made from: the rows of gold, with the time of the appointment.
GOLD_ROWS = f"create table gold_rows as {MATCHED_ROWS} select {GOLD_COLUMNS}, appt_time from matched"  # noqa: S608

# The row of its latest day; then a match on both hashes before e-mail before phone, then the lowest lead number.
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

# A period begins where the status differs from that of the lead number's day before. A missing day is no change.
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
    # A view: the rows go from the join straight into the COPY, which keeps a core busy anyway.
    "gold": (f"create view lead_quality_matching as {GOLD_MATCHING}",),
}
QUERIES_OF_ALL_TABLES = {
    **BRONZE_AND_SILVER,
    "gold": (GOLD_ROWS, "create view lead_quality_matching as select * exclude (appt_time) from gold_rows"),
    "leads": (GOLD_CURRENT, GOLD_LEADS, GOLD_APPOINTMENTS, GOLD_HISTORY),
}
"""Queries by group of tables. A group is written while the next one is computed."""

# As the pipeline's, but for char(2): there the postgres extension falls back from binary COPY to text, twice as slow.
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
"""Columns of the tables in PostgreSQL, by group. In DuckDB they have the same names, without a schema."""

# Created when the rows are there, as one would after any bulk load.
KEYS = {
    "leads": (
        "alter table gold.leads add primary key (lead_uuid)",
        "alter table gold.lead_quality_current add primary key (lead_uuid)",
        "alter table gold.appointments add primary key (appointment_id)",
        "alter table gold.lead_quality_current add foreign key (lead_uuid) references gold.leads",
        "alter table gold.appointments add foreign key (lead_uuid) references gold.leads",
    )
}


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that can read the bucket and write to the warehouse."""
    db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in EXTENSIONS:
        db.load_extension(str(_extension_file(name)))
    db.execute("set preserve_insertion_order = false")
    db.execute("set force_download = true")  # one request a file instead of one a range
    scheme, endpoint = os.environ["AWS_ENDPOINT_URL_S3"].split("://")
    options = {
        "key_id": os.environ["S3_ACCESS_KEY_ID"],
        "secret": os.environ["S3_SECRET_ACCESS_KEY"],
        "region": os.environ["S3_REGION"],
        "endpoint": endpoint,
        "url_style": "path",
        "use_ssl": str(scheme == "https"),
    }
    db.execute(f"create secret (type s3, {', '.join(f'{name} {_quoted(value)}' for name, value in options.items())})")
    return db


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _extension_file(name: str) -> Path:
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(f"duckdb_extension_{name} is not installed: pip install -r benchmarks/peers/requirements.txt")
    folder = Path(package.submodule_search_locations[0]) / "extensions" / f"v{duckdb.__version__}"
    return folder / f"{name}.duckdb_extension"


def write(db: duckdb.DuckDBPyConnection, group: str) -> dict[str, int]:
    """Replace a group's tables in one transaction, and return their row counts.

    A table that is created in the transaction that fills it needs no write-ahead log under wal_level=minimal.
    """
    connection = db.cursor()  # its own connection: groups are written in parallel
    warehouse = f"warehouse_of_{group}"
    connection.execute(f"attach '' as {warehouse} (type postgres)")  # libpq reads PGHOST and so on
    connection.execute("begin")
    statements = []
    for table, columns in TABLES[group].items():
        statements += [f"drop table if exists {table} cascade", f"create table {table} ({columns})"]
    _execute(connection, warehouse, *statements)
    counts = {}
    for table in TABLES[group]:
        copied = connection.execute(f"insert into {warehouse}.{table} from {table.split('.')[1]}").fetchone()
        counts[table] = copied[0] if copied else 0
    if keys := KEYS.get(group):
        _execute(connection, warehouse, *keys)
    connection.execute("commit")
    return counts


def _execute(connection: duckdb.DuckDBPyConnection, warehouse: str, *statements: str) -> None:
    """Have PostgreSQL execute statements."""
    connection.execute(f"call postgres_execute('{warehouse}', $$ {'; '.join(statements)} $$)")


def match_in_postgres(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Fill gold from silver by a statement that PostgreSQL carries out, and return its row count."""
    statements = (
        "drop table if exists gold.lead_quality_matching",
        f"create table gold.lead_quality_matching ({MATCHING_COLUMNS})",
        "set local search_path = silver",
        "set local work_mem = '256MB'",
        "analyze stg_csv_snapshots, stg_leads_parquet",
        f"insert into gold.lead_quality_matching {GOLD_MATCHING}",
    )
    db.execute("begin")
    _execute(db, "warehouse", *statements)
    db.execute("commit")
    counted = db.execute("select count(*) from warehouse.gold.lead_quality_matching").fetchone() or (0,)
    return {"gold.lead_quality_matching": counted[0]}


def load(*, all_tables: bool, gold_in_postgres: bool) -> dict[str, int]:
    """Read, clean, match and write; return the row counts of all tables."""
    for name in ("HOST", "PORT", "USER", "PASSWORD"):
        os.environ[f"PG{name}"] = os.environ[f"POSTGRES_{name}"]
    os.environ["PGDATABASE"] = os.environ["POSTGRES_DB"]
    bucket = f"s3://{os.environ['S3_BUCKET_NAME']}"
    snapshots = f"{bucket}/{os.environ['S3_SFTP_FILES_PREFIX']}*.csv"
    leads = f"{bucket}/{os.environ['S3_PARQUET_FILE']}"
    db = connect()
    db.execute(f"set variable snapshots = {_quoted(snapshots)}")
    db.execute(f"set variable leads = {_quoted(leads)}")
    db.execute(f"set variable first_day = cast({_quoted(os.environ['PARTITION_START_DATE'])} as date)")
    db.execute(MACROS)
    db.execute("attach '' as warehouse (type postgres)")
    _execute(db, "warehouse", *(f"create schema if not exists {schema}" for schema in ("bronze", "silver", "gold")))
    queries_of = QUERIES_OF_ALL_TABLES if all_tables else BRONZE_AND_SILVER if gold_in_postgres else QUERIES
    with ThreadPoolExecutor(len(queries_of)) as writers:
        written = []
        for group, queries in queries_of.items():
            for query in queries:
                db.execute(query)
            written.append(writers.submit(write, db, group))
        counts = {table: rows for group in written for table, rows in group.result().items()}
    if gold_in_postgres:
        counts |= match_in_postgres(db)
    _check(db, counts)
    return counts


def _check(db: duckdb.DuckDBPyConnection, counts: dict[str, int]) -> None:
    """Raise unless every row that was read was written or dropped on purpose.

    Raises:
        SystemExit: naming the counts.
    """
    dropped = db.execute(f"select count(*) from csv_snapshots where not ({IS_A_LEAD})").fetchone() or (0,)  # noqa: S608
    read = db.execute("select count(*) from csv_snapshots").fetchone() or (0,)
    silver = counts["silver.stg_csv_snapshots"]
    accounted = counts["bronze.csv_snapshots"] == read[0] == silver + dropped[0]
    if not accounted or counts["gold.lead_quality_matching"] < silver:
        raise SystemExit(f"row counts do not add up: {read[0]} read, {dropped[0]} dropped, written {counts}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if unknown := set(arguments) - {"--all-tables", "--gold-in-postgres"}:
        raise SystemExit(f"unknown arguments: {', '.join(sorted(unknown))}")
    json.dump(
        load(all_tables="--all-tables" in arguments, gold_in_postgres="--gold-in-postgres" in arguments), sys.stdout
    )
