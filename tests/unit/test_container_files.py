"""Container files that need no engine to be checked: by schemas, a linter, and comparison with the code.

What they do is tested by tests/containers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from container_files import base_image, compose_services
from jupyter_server.auth.identity import IdentityProvider
from support import PROJECT

COMPOSE = PROJECT / "docker-compose.yml"
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return compose_services()


def check_schema(name: str, *files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_files_match_the_schema_of_the_compose_specification() -> None:
    check_schema("vendor.compose-spec", COMPOSE, PROJECT / ".devcontainer" / "docker-compose.yml")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_match_the_schema_of_github(workflow: Path) -> None:
    check_schema("vendor.github-workflows", workflow)


def test_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, "--no-color", PROJECT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(ports) == {"postgres", "jupyter", "metabase"}
    for (port,) in ports.values():
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PUBLISHED_PORT:-(\d+)\}:\1", port)


def test_no_container_has_the_docker_socket_or_extra_privileges(services: dict[str, Any]) -> None:
    for file in (COMPOSE, *(PROJECT / ".devcontainer").iterdir(), PROJECT / "Dockerfile"):
        assert "docker.sock" not in file.read_text(encoding="utf-8")
    for service in services.values():
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices", "security_opt"} & set(service)


def test_compose_file_contains_no_password(services: dict[str, Any]) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    secrets = re.findall(r"^\s+\w*(?:PASSWORD|TOKEN): (.*)$", text, flags=re.MULTILINE)
    assert len(secrets) >= 4
    for value in secrets:
        assert re.fullmatch(r"\$\{(POSTGRES|BI_READER|ANALYST)_PASSWORD:[-?][\w .]*\}", value)
    assert services["sample"]["environment"]["S3_SECRET_ACCESS_KEY"] == "demo", "the S3 server accepts any key"
    for service in services.values():
        assert "PASSWORD" not in f"{service.get('command')} {service.get('healthcheck')}"


def test_postgres_has_version_settings_and_collation_of_the_embedded_server(services: dict[str, Any]) -> None:
    server = services["postgres"]
    major = re.fullmatch(r"postgres:(\d+)-\w+", server["image"])[1]
    assert f"pginstall{major}" in (PROJECT / "etl" / "local" / "postgres_cluster.py").read_text(encoding="utf-8")
    program, *options = server["command"]
    assert program == "postgres"
    embedded_conf = (PROJECT / "etl" / "local" / "embedded.conf").read_text(encoding="utf-8")
    of_embedded = dict(re.findall(r"^(\w+) = '?([\w.]+)'?", embedded_conf, flags=re.MULTILINE))
    for option in options:
        name, value = re.fullmatch(r"--(\w+)=(\w+)", option).groups()
        assert of_embedded[name] == value
    initdb = (PROJECT / "etl" / "local" / "postgres_server.py").read_text(encoding="utf-8")
    arguments = server["environment"]["POSTGRES_INITDB_ARGS"].split()
    arguments.remove("--auth-host=scram-sha-256")  # the embedded server has a pg_hba.conf of its own
    for argument in arguments:
        assert f'"{argument}"' in initdb


def test_services_share_settings_and_files_except_the_scheduler(services: dict[str, Any]) -> None:
    for name in ("jupyter", "worker"):
        for key in ("env_file", "environment", "volumes", "build"):
            assert services["python"][key] == services[name][key]
    names = [service["image"] for service in services.values() if "image" in service]
    assert len(names) == len(set(names)), "parallel builds of one image can fail"
    assert services["sample"]["environment"] == services["pipeline"]["environment"]
    same_version = ["./etl:/workspace/etl:ro", "./sql_scripts:/workspace/sql_scripts:ro"]
    assert services["scheduler"]["volumes"] == same_version, "without .env"
    assert not {"env_file", "environment", "ports"} & set(services["scheduler"])


def test_notebook_server_without_token_generates_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    assert len(IdentityProvider().token) >= 32
    monkeypatch.setenv("JUPYTER_TOKEN", "one's own")
    assert IdentityProvider().token == "one's own"


def test_base_image_is_pinned_slim_and_of_the_required_python() -> None:
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", base_image())[1]
    assert f"--python-version {version}" in (PROJECT / "Makefile").read_text(encoding="utf-8")
