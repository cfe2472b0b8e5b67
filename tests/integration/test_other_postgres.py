"""Run `python main.py` with environment variables, on servers that are not the embedded ones.

PostgreSQL is that of the distribution, and S3 another process: nothing depends on the embedded servers.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg2 import sql
from servers import (
    OLDEST_VERSION,
    SECRET_KEY,
    Server,
    distribution_server,
    new_certificate,
    s3_in_another_process,
)
from support import Bucket, Warehouse, environment_of, run_python

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.errors import PostgresError
from etl.utils.utils_connection import Settings, connect_postgres, s3_client
from etl.warehouse.transactions import close_connections

ROLE = "loader"
PASSWORD = "p@ss:w/rd %2F 'quoted' \"twice\" \\ #1"
"""Contains all characters that a URL, a connection string or SQL must escape."""


# --- Servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with distribution_server() as server:
        make_role = sql.SQL("create role {} login password {}").format(sql.Identifier(ROLE), sql.Literal(PASSWORD))
        server.execute("postgres", make_role)
        yield server


@pytest.fixture(scope="module")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_in_another_process(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


def new_database(server: Server, name: str, s3_endpoint: str) -> Settings:
    """Create a database in which the role may connect and create schemas, and nothing else."""
    database, role = sql.Identifier(name), sql.Identifier(ROLE)
    server.execute(
        "postgres",
        sql.SQL("create database {}").format(database),
        sql.SQL("revoke all on database {} from public").format(database),
        sql.SQL("grant connect, create on database {} to {}").format(database, role),
    )
    return server.settings(ROLE, PASSWORD, name, s3_endpoint)


def new_bucket(settings: Settings) -> Bucket:
    region = {"LocationConstraint": settings.s3_region}
    s3_client(settings).create_bucket(Bucket=settings.s3_bucket_name, CreateBucketConfiguration=region)
    return Bucket(settings)


# --- The real files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstRun:
    """The first run of `python main.py`: its output, and the contents of the tables."""

    settings: Settings
    folder: Path
    output: subprocess.CompletedProcess[str]
    contents: dict[str, str]


@pytest.fixture(scope="module")
def first_run(
    server: Server, s3_process: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FirstRun]:
    settings = new_database(server, "real-leads", s3_process)
    new_bucket(settings).put_folder(real_data)
    folder = tmp_path_factory.mktemp("first_run")
    output = run_main(folder, settings)
    assert output.returncode == 0, output.stderr
    yield FirstRun(settings, folder, output, Warehouse(settings).contents())
    close_connections()


def run_main(folder: Path, settings: Settings) -> subprocess.CompletedProcess[str]:
    return run_python(folder, "main.py", "--log-level", "debug", environment=environment_of(settings))


def test_server_is_from_the_distribution_with_a_limited_role(first_run: FirstRun) -> None:
    warehouse = Warehouse(first_run.settings)
    version = int(warehouse.value("show server_version_num")) // 10_000
    assert version >= OLDEST_VERSION
    assert str(version) in warehouse.value("select version()")
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    assert warehouse.rows(f"select {rights} from pg_roles where rolname = current_user") == [(False,) * 5]
    assert warehouse.value("select has_database_privilege(current_database(), 'temporary')") is False
    assert (
        warehouse.value("select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()")
        is False
    )
    assert list(first_run.folder.iterdir()) == [], "nothing is created besides the tables, not even .local"


def test_every_layer_has_the_expected_rows_per_day(first_run: FirstRun, real_data: Path) -> None:
    expected = json.loads((real_data / "expected.json").read_text())
    warehouse = Warehouse(first_run.settings)
    tables = {
        "bronze": "bronze.csv_snapshots",
        "silver": "silver.stg_csv_snapshots",
        "gold": "gold.lead_quality_matching",
    }
    for layer, table in tables.items():
        days = warehouse.rows(f"select _partition_date::text, count(*) from {table} group by 1")
        assert dict(days) == {day: counts[layer] for day, counts in expected["partitions"].items()}
        assert sum(rows for _, rows in days) == expected[f"{layer}_rows"]
    assert warehouse.value("select count(*) from silver.stg_leads_parquet") == expected["leads"]


def test_matches_and_grades_are_as_expected(first_run: FirstRun, real_data: Path) -> None:
    expected = json.loads((real_data / "expected.json").read_text())
    warehouse = Warehouse(first_run.settings)
    (matches,) = warehouse.rows(
        """
        select
            count(*) filter (where email_match and phone_match),
            count(*) filter (where email_match and not phone_match),
            count(*) filter (where phone_match and not email_match),
            count(*) filter (where not email_match and not phone_match)
        from gold.lead_quality_matching
        """
    )
    assert dict(zip(("both", "email_only", "phone_only", "none"), matches, strict=True)) == expected["match"]
    grades = warehouse.rows(
        "select lead_quality_flag, count(*), count(distinct lead_uuid) from gold.lead_quality_matching group by 1"
    )
    assert {flag: rows for flag, rows, _ in grades} == expected["quality_rows"]
    assert {flag: leads for flag, _, leads in grades} == expected["quality_leads"]


def test_second_run_gives_equal_contents_and_no_run_shows_a_secret(first_run: FirstRun, tmp_path: Path) -> None:
    second = run_main(tmp_path, first_run.settings)
    assert second.returncode == 0, second.stderr
    assert Warehouse(first_run.settings).contents() == first_run.contents
    assert " DEBUG " in first_run.output.stderr, "the log level is debug"
    for text in (first_run.output.stdout, first_run.output.stderr, second.stdout, second.stderr):
        for secret in (PASSWORD, SECRET_KEY):
            for shown in (secret, quote(secret), quote(secret, safe="")):
                assert shown not in text


def test_missing_key_is_added_and_leads_as_of_a_day_returned(first_run: FirstRun, tmp_path: Path) -> None:
    warehouse = Warehouse(first_run.settings)
    keys = "select contype::text from pg_constraint where conrelid = 'gold.lead_quality_matching'::regclass order by 1"
    before = warehouse.rows(keys)
    assert ("p",) in before
    assert (("f",) in before) == (warehouse.value("show server_version_num") >= "180000")
    dropped = "drop constraint lead_quality_matching_pkey"
    warehouse.rows(f"alter table gold.lead_quality_matching {dropped}; delete from gold.appointments")
    assert run_main(tmp_path, first_run.settings).returncode == 0
    assert warehouse.rows(keys) == before
    assert warehouse.contents() == first_run.contents
    latest = warehouse.value("select max(last_seen) from gold.leads")
    assert warehouse.rows("select * from gold.leads_as_of(%s) except table gold.leads", latest) == []
    assert warehouse.rows("table gold.leads except select * from gold.leads_as_of(%s)", latest) == []


# --- Differences between versions of PostgreSQL -----------------------------------------------------------------------


def test_hashes_are_trimmed_of_blanks_only(server: Server, s3_process: str) -> None:
    """Before PostgreSQL 16, `\\v` in a string is the letter v."""
    settings = new_database(server, "small-leads", s3_process)
    bucket = new_bucket(settings)
    bucket.put_leads([("its own", "p1", "vabcv"), ("another's", "p2", "abc")])
    bucket.put_snapshot(
        1,
        [
            {"LEADNUMBER": "1", "email_hash": "vabcv", "phone_hash": ""},
            {"LEADNUMBER": "2", "email_hash": "\x0b abc\t\x0b", "phone_hash": ""},
        ],
    )
    report = run_steps(settings, STEPS)
    close_connections()
    assert report.error is None
    matches = Warehouse(settings).rows("select lead_number, lead_uuid from gold.lead_quality_matching order by 1, 2")
    assert matches == [(1, "its own"), (2, "another's")]


# --- TLS --------------------------------------------------------------------------------------------------------------


def connected_by(settings: Settings, **changes: object) -> str:
    """Return the TLS version of a session of the pipeline, or an empty text."""
    with closing(connect_postgres(settings.model_copy(update=changes))) as connection, connection.cursor() as db:
        db.execute("select coalesce(version, '') from pg_stat_ssl where pid = pg_backend_pid()")
        return db.fetchone()[0]


@pytest.fixture(scope="module")
def tls_settings(server: Server, s3_process: str) -> Settings:
    return new_database(server, "tls-leads", s3_process)


def test_tls_is_used_if_offered_unless_disabled(tls_settings: Settings) -> None:
    assert connected_by(tls_settings) == "TLSv1.3"
    assert connected_by(tls_settings, postgres_sslmode="require") == "TLSv1.3"
    assert connected_by(tls_settings, postgres_sslmode="disable") == ""


def test_verify_full_accepts_server_with_matching_certificate_and_name(tls_settings: Settings, server: Server) -> None:
    known = {"postgres_sslmode": "verify-full", "postgres_sslrootcert": str(server.certificate)}
    assert connected_by(tls_settings, postgres_host="localhost", **known) == "TLSv1.3"


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"postgres_sslrootcert": "the server's"}, "POSTGRES_HOST"),
        ({"postgres_host": "localhost", "postgres_sslrootcert": "another's"}, "POSTGRES_SSLROOTCERT"),
        ({"postgres_host": "localhost", "postgres_sslrootcert": "/no/such/file"}, "POSTGRES_SSLROOTCERT"),
    ],
    ids=["another name", "another authority", "no authority"],
)
def test_verify_full_refuses_another_server_at_once(
    tls_settings: Settings, server: Server, tmp_path: Path, changes: dict[str, str], hint: str
) -> None:
    files = {"the server's": server.certificate, "another's": new_certificate(tmp_path, None)["cert"]}
    file = changes["postgres_sslrootcert"]
    settings = tls_settings.model_copy(
        update={"postgres_sslmode": "verify-full", **changes, "postgres_sslrootcert": str(files.get(file, file))}
    )
    with pytest.raises(PostgresError, match=hint) as refused, translate_postgres_errors(settings):
        connect_postgres(settings)
    assert refused.value.transient is False
    assert PASSWORD not in str(refused.value)
