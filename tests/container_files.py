"""Parse Dockerfile and docker-compose.yml without a container engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser
from support import PROJECT

OF_ENV_FILE = {"POSTGRES_USER": "myuser", "POSTGRES_PASSWORD": "its-password", "POSTGRES_DB": "mydatabase"}


def compose(*profiles: str, **variables: str) -> dict[str, Any]:
    """Return the compose file with variables and profiles applied, as `docker compose config` shows it.

    podman-compose parses the file; it only checks that podman exists.
    """
    with TemporaryDirectory() as folder:
        podman = Path(folder) / "podman"
        podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
        podman.chmod(0o755)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "podman_compose", "--file", PROJECT / "docker-compose.yml"),
                *(argument for profile in profiles for argument in ("--profile", profile)),
                "config",
            ],
            cwd=folder,  # a folder without .env
            env={"PATH": f"{folder}:{os.environ['PATH']}", **OF_ENV_FILE, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
    parsed: dict[str, Any] = yaml.safe_load(done.stdout)
    return parsed


def environment_of_service(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, such as `("RUN", "pip install …")`, in order."""
    with (PROJECT / "Dockerfile").open("rb") as dockerfile:
        return [
            (step["instruction"], step["value"])
            for step in DockerfileParser(fileobj=dockerfile).structure
            if step["instruction"] != "COMMENT"
        ]


def base_image() -> str:
    """Return the image on which the stages of the Dockerfile are based."""
    return next(value for name, value in instructions() if name == "FROM").split()[0]


def value_of(instruction: str) -> str:
    """Return the value of an instruction that occurs once."""
    (value,) = [value for name, value in instructions() if name == instruction]
    return value


def python_command(service: Mapping[str, Any]) -> list[str]:
    """Return the command of a service, executed by this Python."""
    program, *arguments = service["command"]
    assert program == "python"
    return [sys.executable, *(str(PROJECT / name) if name == "main.py" else name for name in arguments)]
