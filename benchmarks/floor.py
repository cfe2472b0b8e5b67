"""COPY floor: the time that PostgreSQL alone needs to load the rows of bronze and silver and to match them.

Prepared CSV files, in the order and format of the tables, are loaded by COPY, two days in parallel. Gold is one
`insert … select` per day. Nothing is parsed, cleaned, checked or recorded, so no pipeline that stores these rows can be
much faster.

    python -m benchmarks.floor FOLDER       # settings from the environment, as for the pipeline

FOLDER contains the files that `prepare` copied from a loaded warehouse.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

CONNECTIONS = 2

BRONZE = """
    "ENTRYDATE" text, "LEADNUMBER" text, email_hash text, phone_hash text, "CITY" text, "STATE" text, "ZIP" text,
    "APPT_DATE" text, "Set" text, "Demo" text, "Dispo" text, "JOB_STATUS" text, location text, _extraction_date text,
    _partition_date text, _source_file text, _source_row bigint, _extra jsonb
"""
SILVER = """
    entry_date date, lead_number int, email_hash varchar(255), phone_hash varchar(255), city varchar(100),
    state char(2), zip varchar(10), appt_date timestamp, appt_time time, set int, demo int, dispo varchar(50),
    job_status varchar(100), location varchar(255), _extraction_date date, _partition_date date
"""
GOLD = """
    lead_uuid varchar(255), lead_number int, email_hash varchar(255), phone_hash varchar(255), city varchar(100),
    state char(2), zip varchar(10), appt_date timestamp, set int, demo int, dispo varchar(50), job_status varchar(100),
    location varchar(255), appointment_scheduled boolean, demo_scheduled boolean, email_match boolean,
    phone_match boolean, _extraction_date date, _partition_date date, conversion_rate float,
    lead_quality_flag varchar(50)
"""
SNAPSHOTS = {"bronze.csv_snapshots": BRONZE, "silver.stg_csv_snapshots": SILVER, "gold.lead_quality_matching": GOLD}
LEADS = {
    "bronze.leads_parquet": '"lead_UUID" text, phone_hash text, email_hash text, _extraction_date text',
    "silver.stg_leads_parquet": """
        lead_uuid varchar(255), phone_hash varchar(255), email_hash varchar(255), _extraction_date date
    """,
}
COPIED = ("bronze.csv_snapshots", "silver.stg_csv_snapshots")

MATCH = """
insert into gold.lead_quality_matching_{day}
with snapshots as (
    select *, nullif(lower(btrim(email_hash)), '') as email_key, nullif(lower(btrim(phone_hash)), '') as phone_key
    from silver.stg_csv_snapshots_{day}
),

matches as (
    select snapshots.*, lead_uuid, true as email_match, coalesce(phone_key = leads.phone_hash, false) as phone_match
    from snapshots inner join silver.stg_leads_parquet as leads on email_key = leads.email_hash
    union all
    select snapshots.*, lead_uuid, false, true
    from snapshots inner join silver.stg_leads_parquet as leads on phone_key = leads.phone_hash
    where (email_key = leads.email_hash) is not true
    union all
    select snapshots.*, null, false, false
    from snapshots
    where
        not exists (select from silver.stg_leads_parquet as leads where leads.email_hash = email_key)
        and not exists (select from silver.stg_leads_parquet as leads where leads.phone_hash = phone_key)
)

select
    lead_uuid, lead_number, email_hash, phone_hash, city, state, zip, appt_date, set, demo, dispo, job_status, location,
    set is not distinct from 1, demo is not distinct from 1, email_match, phone_match, _extraction_date,
    _partition_date, null,
    case when set = 1 and demo = 1 then 'High Quality' when set = 1 then 'Medium Quality' else 'Low Quality' end
from matches
"""


def prepare(warehouse: Connection, folder: Path) -> None:
    """Copy bronze and silver of a loaded warehouse to CSV files, those of snapshots by day."""
    folder.mkdir(parents=True, exist_ok=True)
    with warehouse, warehouse.cursor() as db:
        for table in LEADS:
            with (folder / f"{table}.csv").open("wb") as file:
                db.copy_expert(f"copy {table} to stdout (format csv)", file)
        db.execute("select distinct _partition_date from silver.stg_csv_snapshots order by 1")
        for number, (day,) in enumerate(db.fetchall(), start=1):
            for table in COPIED:
                columns = _column_names(SNAPSHOTS[table])
                with (folder / f"{table}_{number:02}.csv").open("wb") as file:
                    rows = f"select {columns} from {table} where _partition_date = %s"  # noqa: S608 - constants
                    query = db.mogrify(rows, (str(day),)).decode()
                    db.copy_expert(f"copy ({query}) to stdout (format csv)", file)


def _column_names(definition: str) -> str:
    return ", ".join(column.split()[0] for column in definition.split(","))


def load(folder: Path) -> None:
    """Load bronze, silver and gold of an empty database."""
    days = sorted(path.stem.rsplit("_", 1)[1] for path in folder.glob(f"{COPIED[0]}_*.csv"))
    with closing(_connect()) as connection, connection, connection.cursor() as db:
        db.execute("create schema bronze; create schema silver; create schema gold")
        for table, columns in LEADS.items():
            _fill(connection, table, columns, folder / f"{table}.csv")
        db.execute("analyze silver.stg_leads_parquet")
    with ThreadPoolExecutor(CONNECTIONS) as workers:
        # each thread has one connection and its own share of the days
        list(workers.map(partial(_load_days, folder), [days[turn::CONNECTIONS] for turn in range(CONNECTIONS)]))


def _load_days(folder: Path, days: list[str]) -> None:
    with closing(_connect()) as connection:
        for day in days:
            with connection, connection.cursor() as db:
                for table in COPIED:
                    _fill(connection, f"{table}_{day}", SNAPSHOTS[table], folder / f"{table}_{day}.csv")
                db.execute(f"create table gold.lead_quality_matching_{day} ({GOLD})")
                db.execute(MATCH.format(day=day))


def _fill(connection: Connection, table: str, columns: str, file: Path) -> None:
    # A table that is created and filled in one transaction needs no write-ahead log under wal_level=minimal.
    with connection.cursor() as db, file.open("rb") as rows:
        db.execute(f"create table {table} ({columns})")
        db.copy_expert(f"copy {table} from stdin (format csv)", rows, size=1 << 20)


def _connect() -> Connection:
    return psycopg2.connect(
        host=os.environ["POSTGRES_HOST"],
        port=os.environ["POSTGRES_PORT"],
        user=os.environ["POSTGRES_USER"],
        password=os.environ["POSTGRES_PASSWORD"],
        dbname=os.environ["POSTGRES_DB"],
    )


if __name__ == "__main__":
    load(Path(sys.argv[1]))
