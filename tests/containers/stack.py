"""A checkout like a user's, and the compose project that is started in it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import Engine, run
from support import PROJECT

DEMO_SETTINGS = {
    "S3_ACCESS_KEY_ID": "demo",
    "S3_SECRET_ACCESS_KEY": "demo",
    "S3_REGION": "us-east-1",
    "S3_BUCKET_NAME": "homebuddy-demo",
    "AWS_ENDPOINT_URL_S3": "http://s3:5000",
}


@dataclass(frozen=True)
class Stack:
    """A compose project. Its commands fail the test if they fail."""

    engine: Engine
    checkout: Path
    settings: Mapping[str, str]

    def try_compose(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.engine.docker("compose", *arguments, cwd=self.checkout)

    def compose(self, *arguments: str | Path) -> str:
        """Run `docker compose`. Returns what it printed."""
        done = self.try_compose(*arguments)
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed[-3000:]
        return printed

    def python(self, *arguments: str) -> str:
        return self.compose("exec", "-T", "python", "python", *arguments)

    def query(self, statement: str) -> str:
        """Return the result of a query of the container's superuser, as psql prints it."""
        psql = ("psql", "--username", "postgres", "--dbname", self.settings["POSTGRES_DB"], "-AtX", "--command")
        return self.compose("exec", "-T", "postgres", *psql, statement).strip()

    def run_demo(self) -> str:
        """Start profile demo, and wait for its run. Returns the log of this run."""
        self.compose("--profile", "demo", "up", "--detach")
        container = self.compose("--profile", "demo", "ps", "--all", "--quiet", "pipeline").strip()
        code = self.engine.docker("wait", container).stdout.strip()
        started = self.engine.docker("inspect", "--format", "{{.State.StartedAt}}", container).stdout.strip()
        done = self.engine.docker("logs", "--since", started, container)
        log = done.stdout + done.stderr
        assert code == "0", log[-3000:]
        return log

    def health(self, service: str) -> str:
        return self.inspect(service, "{{.State.Health.Status}}")

    def health_checks(self, service: str) -> int:
        """Return how many health checks of a service are recorded: up to five."""
        return int(self.inspect(service, "{{len .State.Health.Log}}"))

    def inspect(self, service: str, template: str) -> str:
        container = self.compose("ps", "--all", "--quiet", service).strip()
        return self.engine.docker("inspect", "--format", template, container).stdout.strip()

    def down(self) -> None:
        self.compose("--profile", "*", "down", "--volumes")


def make_stack(engine: Engine, name: str, *, owner: int = 1000, **settings: str) -> Stack:
    """Clone the project for a user of the host, and fill in `.env`. The stack is not started."""
    checkout = engine.folder / name
    if checkout.exists():
        shutil.rmtree(checkout)
    run(["git", "clone", "--quiet", PROJECT, checkout], os.environ, check=True)
    copy_changed_files(checkout)
    shutil.copy(checkout / ".env.example", checkout / ".env")
    made_up = {
        # As .env.example says: in single quotes, a dollar sign is no variable.
        "POSTGRES_PASSWORD": f"'{secrets.token_hex(12)}$HOME'",
        "BI_READER_PASSWORD": secrets.token_hex(12),
        "ANALYST_PASSWORD": secrets.token_hex(12),
        "JUPYTER_TOKEN": secrets.token_hex(12),
    }
    change_settings(checkout / ".env", DEMO_SETTINGS | made_up | settings)
    run(["chown", "-R", f"{owner}:{owner}", checkout], os.environ, check=True)
    return Stack(engine, checkout, read_settings(checkout / ".env"))


def copy_changed_files(checkout: Path) -> None:
    """Apply what is not committed: the tests are about the files as they are."""
    listed = run(["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"], os.environ, cwd=PROJECT)
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, checkout / name)
        else:
            (checkout / name).unlink(missing_ok=True)


def change_settings(env_file: Path, settings: Mapping[str, str]) -> None:
    text = env_file.read_text(encoding="utf-8")
    for name, value in settings.items():
        text, found = re.subn(rf"^{name}=.*$", lambda _, line=f"{name}={value}": line, text, flags=re.MULTILINE)
        assert found == 1, f"{name} is not in .env.example"
    env_file.write_text(text, encoding="utf-8")


def read_settings(env_file: Path) -> dict[str, str]:
    lines = re.findall(r"^(\w+)=(.*)$", env_file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: value.strip("'") for name, value in lines}
