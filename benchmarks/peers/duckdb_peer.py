"""The pipeline's work in DuckDB: CSV files and a parquet file from S3 to bronze, silver and gold in PostgreSQL.

DuckDB computes everything, vectorised and on all cores. Each table is written to PostgreSQL by one binary COPY, into a
table created in the same transaction. The layers are written in parallel, because one COPY uses only one core of the
server.

By default gold has only `lead_quality_matching`. With `--all-tables`, the script does the same work as the pipeline: it
also writes `leads`, `lead_quality_current`, `appointments` and `lead_status_history` (specification §8), with primary
and foreign keys. With `--gold-in-postgres`, `lead_quality_matching` is built by an `insert … select` from silver in
PostgreSQL.

The tables have the same rows and source columns as the pipeline's, but no `_row_hash`, `_source_row` and
`lead_match_id`. There is no lineage but the file name, no quarantine, no partitions and no incremental load: every run
drops all tables and creates them again.

Reads the settings of the pipeline from the environment, and prints row counts as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

from benchmarks.peers.duckdb_queries import (
    BRONZE_AND_SILVER,
    GOLD_MATCHING,
    IS_A_LEAD,
    KEYS,
    MACROS,
    MATCHING_COLUMNS,
    QUERIES,
    QUERIES_OF_ALL_TABLES,
    TABLES,
)

EXTENSIONS = ("httpfs", "postgres_scanner")


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with the extensions for S3 and PostgreSQL, and with access to the bucket."""
    db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in EXTENSIONS:
        db.load_extension(str(_extension_file(name)))
    db.execute("set preserve_insertion_order = false")
    db.execute("set force_download = true")  # one request per file instead of range requests
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
    """Replace the tables of a group in one transaction. Return their row counts.

    A table that is created in the transaction that fills it needs no write-ahead log under wal_level=minimal.
    """
    connection = db.cursor()  # a separate connection, because groups are written in parallel
    warehouse = f"warehouse_of_{group}"
    connection.execute(f"attach '' as {warehouse} (type postgres)")  # libpq reads PGHOST etc.
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
    """Execute statements in PostgreSQL."""
    connection.execute(f"call postgres_execute('{warehouse}', $$ {'; '.join(statements)} $$)")


def match_in_postgres(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Build `lead_quality_matching` from silver in PostgreSQL. Return its row count."""
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
    """Read, clean, match and write. Return the row counts of all tables."""
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
    """Raise unless bronze has every row that was read, and silver all of them but those excluded by `IS_A_LEAD`.

    Raises:
        SystemExit: the message contains the row counts.
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
