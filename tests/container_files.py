"""Read docker-compose.yml and the Dockerfile without a container engine."""

from __future__ import annotations

import re
from typing import Any

import yaml
from support import PROJECT


def compose_services() -> dict[str, Any]:
    """Return the services of docker-compose.yml. Variables stay as they are written, such as `${POSTGRES_DB}`."""
    services: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return services


def base_image() -> str:
    """Return the image on which the stages of the Dockerfile are based."""
    return re.search(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
