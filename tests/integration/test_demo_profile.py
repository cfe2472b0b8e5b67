"""`docker compose --profile demo up` without an engine: commands and environment of the services, in order.

PostgreSQL is that of the wheel, of the same major version as the image, with the arguments of the image; the names of
the services resolve to this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from container_files import OF_ENV_FILE, compose, environment_of_service, python_command
from servers import Server, accepts_connections, free_port, image_server, wait_until
from support import PROJECT, Warehouse

from etl.warehouse.transactions import close_connections

READERS_PASSWORD = "the readers' \\ word"
FIGURES = PROJECT / ".github" / "workflows" / "containers.yml"


@dataclass(frozen=True)
class DemoProfile:
    """The services of the profile and the servers that replace containers."""

    services: Mapping[str, Any]
    server: Server
    s3_port: int
    folder: Path

    def run(self, name: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a service until it ends."""
        service = self.services[name]
        return subprocess.run(
            python_command(service),
            cwd=self.folder,
            env=self.base_environment()
            | environment_of_service(service)
            | {"POSTGRES_PORT": str(self.server.port)}
            | changes,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def base_environment(self) -> dict[str, str]:
        """Return variables that resolve `postgres` and `s3` to this machine, as the network of an engine does."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(PROJECT),
            "PGHOSTADDR": "127.0.0.1",
            "HTTP_PROXY": f"http://127.0.0.1:{self.s3_port}",
        }


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProfile]:
    services = compose("demo", BI_READER_PASSWORD=READERS_PASSWORD)["services"]
    folder = tmp_path_factory.mktemp("workspace")
    service = services["postgres"]
    program, *options = service["command"]
    assert program == "postgres"
    started_with = dict(option.removeprefix("--").split("=") for option in options)
    initdb_arguments = environment_of_service(service)["POSTGRES_INITDB_ARGS"].split()
    with image_server(initdb_arguments, started_with) as server:
        prepare(server, service)
        with running_s3(services["s3"], folder) as port:
            yield DemoProfile(services, server, port, folder)


def prepare(server: Server, service: Mapping[str, Any]) -> None:
    """Execute the scripts of an empty volume as the image does: as its superuser, in order, over the socket."""
    mounted = (volume.split(":")[:2] for volume in service["volumes"] if volume.startswith("./"))
    scripts = [PROJECT / source for source, target in sorted(mounted, key=lambda pair: pair[1])]
    environment = {"PATH": os.environ["PATH"], **environment_of_service(service)}
    for script in (*scripts, scripts[0]):  # the first is rerun when a password changes
        copy = shutil.copy(script, server.folder)
        Path(copy).chmod(0o644)
        done = subprocess.run(
            [
                *(server.programs / "psql", "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--no-password"),
                *("-h", server.folder, "-p", str(server.port), "-U", "postgres", "--dbname", "postgres", "-f", copy),
            ],
            user=server.account,
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running_s3(service: Mapping[str, Any], folder: Path) -> Iterator[int]:
    port, log = free_port(), folder / "s3.log"
    here = {"0.0.0.0": "127.0.0.1", "5000": str(port)}
    command = [here.get(argument, argument) for argument in python_command(service)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        wait_until(lambda: accepts_connections(port), process, log)
        health = [*python_command({"command": service["healthcheck"]["test"][1:]})]
        health[-1] = health[-1].replace(":5000", f":{port}")
        subprocess.run(health, check=True, capture_output=True, timeout=30)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def filled(profile: DemoProfile) -> Iterator[Warehouse]:
    for name in ("sample", "pipeline"):
        done = profile.run(name)
        assert done.returncode == 0, done.stdout + done.stderr
    settings = profile.server.settings(
        OF_ENV_FILE["POSTGRES_USER"], OF_ENV_FILE["POSTGRES_PASSWORD"], OF_ENV_FILE["POSTGRES_DB"], "http://127.0.0.1:9"
    )
    yield Warehouse(settings)
    close_connections(settings)


def test_demo_profile_fills_gold_without_a_cloud_account(filled: Warehouse) -> None:
    assert filled.value("select count(*) from silver.stg_csv_snapshots") == 82_325
    assert filled.value("select count(*) from gold.lead_quality_matching") == 82_422
    assert filled.value("select count(*) from gold.leads") == 4_364


def test_second_start_loads_nothing(profile: DemoProfile, filled: Warehouse) -> None:
    ledger = "select table_name, load_id from meta.table_loads order by 1"
    before = filled.rows(ledger)
    assert profile.run("sample").returncode == 0
    assert "0 new · 0 changed · 23 skipped" in profile.run("pipeline").stdout
    assert filled.rows(ledger) == before


def test_pipeline_role_has_only_the_documented_rights(filled: Warehouse) -> None:
    special = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    assert filled.rows(f"select {special} from pg_roles where rolname = current_user") == [(False,) * 5]
    for right, granted in {"connect": True, "create": True, "temporary": False}.items():
        assert filled.value("select has_database_privilege(current_database(), %s)", right) is granted
    assert filled.value("select count(*) from pg_auth_members where member = current_user::regrole") == 0
    assert (
        filled.value("select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()") is False
    )


def test_bi_reader_reads_gold_with_its_configured_password(profile: DemoProfile, filled: Warehouse) -> None:
    reader = Warehouse(profile.server.settings("bi_reader", READERS_PASSWORD, filled.settings.postgres_db, ""))
    assert reader.value("select count(*) from gold.lead_quality_matching") == 82_422
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        reader.rows("select * from silver.stg_csv_snapshots")


def test_superuser_of_the_container_has_no_password(profile: DemoProfile, filled: Warehouse) -> None:
    del filled
    with profile.server.connect("postgres") as connection, connection.cursor() as db:
        db.execute("select rolpassword from pg_authid where rolname = %s", (profile.server.superuser,))
        assert db.fetchall() == [(None,)]
        db.execute("select rolname from pg_authid where rolpassword not like 'SCRAM-SHA-256$%'")
        assert db.fetchall() == []
    connection.close()


def test_server_log_contains_no_password(profile: DemoProfile, filled: Warehouse) -> None:
    del filled
    log = (profile.server.folder / "log").read_text()
    assert "ready to accept connections" in log
    for secret in (OF_ENV_FILE["POSTGRES_PASSWORD"], READERS_PASSWORD, READERS_PASSWORD.replace("'", "''")):
        assert secret not in log


def test_sample_command_overwrites_no_foreign_objects_or_warehouse(profile: DemoProfile, filled: Warehouse) -> None:
    counted = "select count(*) from gold.lead_quality_matching"
    before = filled.value(counted)
    refused = profile.run("sample", S3_BUCKET_NAME="another-bucket")
    assert refused.returncode == 1
    assert "mydatabase contains the files of bucket homebuddy-demo" in refused.stderr

    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{profile.s3_port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    client.create_bucket(Bucket="real-leads")
    client.put_object(Bucket="real-leads", Key="SFTP/data_1.csv", Body=b"real")
    refused = profile.run("sample", S3_BUCKET_NAME="real-leads")
    assert refused.returncode == 1
    assert (
        "bucket real-leads contains objects that are not part of the sample, such as SFTP/data_1.csv" in refused.stderr
    )
    assert client.get_object(Bucket="real-leads", Key="SFTP/data_1.csv")["Body"].read() == b"real"
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["homebuddy-demo", "real-leads"]
    assert filled.value(counted) == before


def test_workflow_asserts_the_same_figures(filled: Warehouse) -> None:
    asserted = re.findall(r"^\s+(gold\.\w+) (\d+)$", FIGURES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(asserted) >= 3
    for table, rows in asserted:
        assert filled.value(f"select count(*) from {table}") == int(rows)
