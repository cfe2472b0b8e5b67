"""Container files, checked without an engine: by schemas, parsers and a linter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from container_files import compose, environment_of_service, instructions, value_of
from docker.utils import exclude_paths
from jupyter_server.auth.identity import IdentityProvider
from support import PROJECT

from etl.utils.utils_connection import Settings

COMPOSE = PROJECT / "docker-compose.yml"
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
ALWAYS = {"postgres", "python", "jupyter"}
PROFILES = {"demo": {"s3", "sample", "pipeline"}, "cluster": {"scheduler", "worker"}, "bi": {"metabase"}}
REQUIREMENTS = ("requirements.txt", "requirements-dask.txt")
JSON_WITH_COMMENTS = re.compile(r"^\s*//.*$", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return compose(*PROFILES)["services"]


# --- docker-compose.yml -----------------------------------------------------------------------------------------------


def test_compose_file_matches_the_schema_of_the_compose_specification() -> None:
    check_schema("vendor.compose-spec", COMPOSE)


def check_schema(name: str, *files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    shutil.copy(COMPOSE, tmp_path)
    shutil.copy(PROJECT / ".env.example", tmp_path / ".env")
    command = [docker, "compose", *(f"--profile={profile}" for profile in PROFILES), "config", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_profile_has_its_services(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if not service.get("profiles")} == ALWAYS
    for profile, names in PROFILES.items():
        assert {name for name, service in services.items() if service.get("profiles") == [profile]} == names
    assert set(services) == ALWAYS.union(*PROFILES.values())


def test_each_service_waits_for_services_of_its_profile(services: dict[str, Any]) -> None:
    started_with = {profile: ALWAYS | names for profile, names in PROFILES.items()}
    for name, service in services.items():
        available = started_with.get("".join(service.get("profiles", [])), ALWAYS)
        for needed, how in service.get("depends_on", {}).items():
            assert needed in available, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
    waits = {name: {n: how["condition"] for n, how in s.get("depends_on", {}).items()} for name, s in services.items()}
    assert waits["python"] == waits["jupyter"] == {"postgres": "service_healthy"}
    assert waits["sample"] == {"postgres": "service_healthy", "s3": "service_healthy"}
    assert waits["pipeline"] == {"sample": "service_completed_successfully"}


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {
        "postgres": ["127.0.0.1:5432:5432"],
        "jupyter": ["127.0.0.1:8888:8888"],
        "metabase": ["127.0.0.1:3000:3000"],
    }


def test_no_container_has_the_docker_socket_or_extra_privileges(services: dict[str, Any]) -> None:
    for file in (COMPOSE, PROJECT / ".devcontainer" / "devcontainer.json", PROJECT / "Dockerfile"):
        assert "docker.sock" not in file.read_text(encoding="utf-8")
    for service in services.values():
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices", "security_opt"} & set(service)


def test_compose_file_contains_no_password(services: dict[str, Any]) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    secret = re.findall(r"^\s+\w*(?:PASSWORD|TOKEN): (.*)$", text, flags=re.MULTILINE)
    assert len(secret) >= 4
    assert [
        value for value in secret if not re.fullmatch(r"\$\{(POSTGRES|BI_READER)_PASSWORD:[-?][\w .]*\}", value)
    ] == []
    assert environment_of_service(services["sample"])["S3_SECRET_ACCESS_KEY"] == "demo", "the S3 server accepts any key"
    for service in services.values():
        assert "its-password" not in str(service.get("command", "")) + str(service.get("healthcheck", ""))


def test_settings_of_env_example_suffice_for_the_compose_file() -> None:
    example = dict(re.findall(r"^(\w+)=(.+)$", (PROJECT / ".env.example").read_text(), flags=re.MULTILINE))
    compose(*PROFILES, **example)


def test_missing_compose_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_files.OF_ENV_FILE", {"POSTGRES_USER": "u", "POSTGRES_DB": "d"})
    with pytest.raises(subprocess.CalledProcessError) as missing:
        compose()
    assert "set it in .env" in missing.value.stderr


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
    for name in ("wal_level", "max_wal_size", "shared_buffers", "work_mem", "maintenance_work_mem"):
        assert any(option.startswith(f"--{name}=") for option in options)
    initdb = (PROJECT / "etl" / "local" / "postgres_server.py").read_text(encoding="utf-8")
    for argument in server["environment"]["POSTGRES_INITDB_ARGS"].split():
        assert f'"{argument}"' in initdb


def test_data_of_postgres_is_a_named_volume_at_the_path_of_its_major_version(services: dict[str, Any]) -> None:
    """From version 18 on, the image keeps its data below /var/lib/postgresql/<major>."""
    assert "postgres-data:/var/lib/postgresql" in services["postgres"]["volumes"]
    assert set(compose(*PROFILES)["volumes"]) == {"postgres-data", "metabase-data"}


def test_files_mounted_by_postgres_exist(services: dict[str, Any]) -> None:
    mounted = [volume.split(":") for volume in services["postgres"]["volumes"] if volume.startswith("./")]
    assert [mode for _, _, mode in mounted] == ["ro", "ro"]
    for source, target, _ in mounted:
        assert (PROJECT / source).is_file()
        assert target.startswith("/docker-entrypoint-initdb.d/")
        assert target.endswith(".sql"), "the image executes no other files"


def test_demo_service_uses_known_settings(services: dict[str, Any]) -> None:
    environment = environment_of_service(services["pipeline"])
    assert environment == environment_of_service(services["sample"])
    assert set(environment) <= {name.upper() for name in Settings.model_fields}
    settings = Settings(**{name.lower(): value for name, value in environment.items()})
    assert settings.aws_endpoint_url_s3 == "http://s3:5000"


def test_python_and_jupyter_see_the_same_settings_and_files(services: dict[str, Any]) -> None:
    for key in ("image", "env_file", "environment", "volumes", "build"):
        assert services["python"][key] == services["jupyter"][key]
    assert services["python"]["volumes"] == [".:/workspace"]
    assert services["jupyter"]["env_file"] == [".env"]


def test_workers_have_the_settings_of_the_driver_and_the_scheduler_has_none(services: dict[str, Any]) -> None:
    for key in ("image", "env_file", "environment", "volumes", "build"):
        assert services["worker"][key] == services["python"][key]
    assert services["scheduler"]["image"] == services["python"]["image"]
    same_version = ["./etl:/workspace/etl:ro", "./sql_scripts:/workspace/sql_scripts:ro"]
    assert services["scheduler"]["volumes"] == same_version, "without .env"
    assert not {"env_file", "environment", "ports"} & set(services["scheduler"])
    assert services["worker"]["deploy"] == {"replicas": 2}


def test_notebook_server_without_token_generates_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    assert len(IdentityProvider().token) >= 32
    monkeypatch.setenv("JUPYTER_TOKEN", "one's own")
    assert IdentityProvider().token == "one's own"


# --- Dockerfile -------------------------------------------------------------------------------------------------------


def test_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, "--no-color", PROJECT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_base_image_is_pinned_slim_and_of_the_required_python() -> None:
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", value_of("FROM"))[1]
    assert version == (PROJECT / ".python-version").read_text().strip()
    assert f"--python-version {version}" in (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_requirements_are_installed_before_the_source_is_copied() -> None:
    names = [f"{name} {value}" for name, value in instructions()]
    options = " ".join(f"--requirement {file}" for file in REQUIREMENTS)
    installed = names.index(f"RUN pip install --only-binary :all: {options}")
    assert names.index(f"COPY {' '.join(REQUIREMENTS)} ./") < installed < names.index("COPY --chown=1000:1000 . .")
    assert not re.search(r"\b(apt|apk|gcc|build-essential|docker)\b", " ".join(names))


def test_container_runs_as_an_unprivileged_user_with_its_own_folder() -> None:
    steps = instructions()
    assert ("USER", "1000:1000") in steps
    assert [name for name, _ in steps[steps.index(("USER", "1000:1000")) :]] == ["USER", "CMD"]
    (made,) = [value for name, value in steps if value.startswith("useradd")]
    assert "--uid 1000 etl" in made
    assert "--owner=etl --group=etl /workspace" in made
    assert value_of("WORKDIR") == "/workspace"


# --- Files in the image -----------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return what `COPY . .` takes from a checkout with secrets: a folder like /workspace of the image."""
    checkout, image = tmp_path / "checkout", tmp_path / "workspace"
    ignored = shutil.ignore_patterns(".git", ".venv", ".local", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(PROJECT, checkout, ignore=ignored)
    for name in NOT_COPIED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("secret")
    patterns = (checkout / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in exclude_paths(str(checkout), [line for line in patterns if line and not line.startswith("#")]):
        if (checkout / name).is_file():
            (image / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, image / name)
    return image


NOT_COPIED = [
    ".env",
    ".env.production",
    ".local/pgpass",
    ".git/config",
    ".venv/bin/python",
    "data/SFTP/data_1.csv",
    "etl/local/__pycache__/demo.pyc",
    "your_jup_notebooks/.ipynb_checkpoints/gold_EDA.ipynb",
]


def test_image_contains_no_secret_and_no_generated_file(copied: Path) -> None:
    present = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    assert present & set(NOT_COPIED) == set()
    assert {".env.example", "main.py", "etl/pipeline.py", "sql_scripts/gold/models/leads.sql"} <= present


def test_command_of_the_image_works_on_the_copied_files(copied: Path, tmp_path: Path) -> None:
    program, *arguments = json.loads(value_of("CMD"))
    assert program == "python"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copied, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "missing settings: POSTGRES_USER, POSTGRES_PASSWORD" in done.stderr


# --- devcontainer.json ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def devcontainer() -> dict[str, Any]:
    text = (PROJECT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    return json.loads(JSON_WITH_COMMENTS.sub("", text))


# Properties of the Dev Container specification for a container of docker compose, as far as they are used here.
TYPES = {
    "name": str,
    "dockerComposeFile": str,
    "service": str,
    "workspaceFolder": str,
    "remoteUser": str,
    "initializeCommand": str,
    "shutdownAction": str,
    "customizations": dict,
}


def test_devcontainer_has_only_properties_of_the_specification(devcontainer: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in devcontainer.items()} == TYPES
    assert devcontainer["shutdownAction"] in ("none", "stopCompose")


def test_devcontainer_opens_the_python_service_in_the_mounted_project(
    devcontainer: dict[str, Any], services: dict[str, Any]
) -> None:
    compose_file = PROJECT / ".devcontainer" / devcontainer["dockerComposeFile"]
    assert compose_file.resolve() == COMPOSE
    mounts = [volume.split(":")[1] for volume in services[devcontainer["service"]]["volumes"]]
    assert devcontainer["service"] == "python"
    assert devcontainer["workspaceFolder"] in mounts
    assert f" {devcontainer['remoteUser']} " in value_of_user_creation()
    assert {"ms-python.python", "ms-toolsai.jupyter"} <= set(devcontainer["customizations"]["vscode"]["extensions"])


def value_of_user_creation() -> str:
    return next(value for name, value in instructions() if name == "RUN" and value.startswith("useradd"))


def test_dangling_images_are_pruned_by_the_host(devcontainer: dict[str, Any]) -> None:
    assert devcontainer["initializeCommand"] == "docker image prune -f"


# --- GitHub Actions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_match_the_schema_of_github(workflow: Path) -> None:
    check_schema("vendor.github-workflows", workflow)
