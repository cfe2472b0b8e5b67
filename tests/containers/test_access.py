"""Who can connect to the containers: from the host, from the container, with which password."""

from __future__ import annotations

import subprocess
import sys

import pytest
from stack import Stack

pytestmark = pytest.mark.containers
QUERY = "import psycopg2, sys; db = psycopg2.connect('').cursor(); db.execute(sys.argv[1]); print(db.fetchone()[0])"
REQUEST = """
import sys, urllib.error, urllib.request
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
try:
    print(open_url(urllib.request.Request(sys.argv[1], headers={"Authorization": sys.argv[2]})).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
COUNT_LEADS = "select count(*) from gold.leads"


def query_from_host(stack: Stack, role: str, password: str, statement: str) -> subprocess.CompletedProcess[str]:
    return stack.engine.on_host(
        *(sys.executable, "-c", QUERY, statement),
        PGHOST="127.0.0.1",
        PGPORT="5432",
        PGDATABASE=stack.settings["POSTGRES_DB"],
        PGUSER=role,
        PGPASSWORD=password,
    )


def test_pipeline_role_connects_from_the_host_with_its_password_only(stack: Stack) -> None:
    role, password = stack.settings["POSTGRES_USER"], stack.settings["POSTGRES_PASSWORD"]
    assert "$" in password, "quoted in .env"
    assert query_from_host(stack, role, password, COUNT_LEADS).stdout == "4364\n"
    assert "password authentication failed" in query_from_host(stack, role, "wrong", COUNT_LEADS).stderr


def test_bi_reader_reads_gold_and_nothing_else(stack: Stack) -> None:
    password = stack.settings["BI_READER_PASSWORD"]
    assert query_from_host(stack, "bi_reader", password, COUNT_LEADS).stdout == "4364\n"
    refused = query_from_host(stack, "bi_reader", password, "select count(*) from silver.stg_csv_snapshots")
    assert "permission denied" in refused.stderr


@pytest.mark.parametrize("password", ["postgres", "the pipeline's"])
def test_superuser_cannot_connect_over_tcp(stack: Stack, password: str) -> None:
    password = {"the pipeline's": stack.settings["POSTGRES_PASSWORD"]}.get(password, password)
    assert "password authentication failed" in query_from_host(stack, "postgres", password, "select 1").stderr
    psql = ("psql", "--host", "localhost", "--username", "postgres", "--command", "select 1")
    refused = stack.try_compose("exec", "-T", "-e", f"PGPASSWORD={password}", "postgres", *psql)
    assert "password authentication failed" in refused.stderr


def test_superuser_has_no_password_and_others_have_a_hash(stack: Stack) -> None:
    assert stack.query("select rolpassword is null from pg_authid where rolname = 'postgres'") == "t"
    assert stack.query("select count(*) from pg_authid where rolpassword not like 'SCRAM-SHA-256$%'") == "0"


def test_pipeline_role_has_only_the_documented_rights(stack: Stack) -> None:
    role, database = stack.settings["POSTGRES_USER"], stack.settings["POSTGRES_DB"]
    special = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls"
    assert stack.query(f"select {special} from pg_roles where rolname = '{role}'") == "f"
    for right, granted in {"connect": "t", "create": "t", "temporary": "f"}.items():
        assert stack.query(f"select has_database_privilege('{role}', '{database}', '{right}')") == granted
    assert stack.query(f"select count(*) from pg_auth_members where member = '{role}'::regrole") == "0"
    owned = f"select pg_has_role('{role}', datdba, 'usage') from pg_database where datname = '{database}'"
    assert stack.query(owned) == "f"


def test_ports_are_open_to_this_machine_only(stack: Stack) -> None:
    assert stack.compose("port", "postgres", "5432").strip() == "127.0.0.1:5432"
    assert stack.compose("port", "jupyter", "8888").strip() == "127.0.0.1:8888"


def test_logs_contain_no_password(stack: Stack) -> None:
    log = stack.compose("--profile", "*", "logs")
    assert "ready to accept connections" in log
    for name in ("POSTGRES_PASSWORD", "BI_READER_PASSWORD", "JUPYTER_TOKEN"):
        assert stack.settings[name] not in log, name


def test_jupyter_asks_for_its_token(stack: Stack) -> None:
    url, token = "http://127.0.0.1:8888/api/contents", stack.settings["JUPYTER_TOKEN"]
    assert stack.engine.on_host(sys.executable, "-c", REQUEST, url, "").stdout == "403\n"
    assert stack.engine.on_host(sys.executable, "-c", REQUEST, url, f"token {token}").stdout == "200\n"


def test_sample_overwrites_no_other_bucket(stack: Stack) -> None:
    another = ("-e", "S3_BUCKET_NAME=another-bucket")
    refused = stack.try_compose("--profile", "demo", "run", "--rm", "-T", *another, "sample")
    assert refused.returncode == 1
    assert "mydatabase contains the files of bucket homebuddy-demo" in refused.stderr
