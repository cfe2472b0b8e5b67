"""The dev container, brought up by the reference command line as a usual user of the host."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engine import Engine, last_line, run
from stack import Stack

pytestmark = pytest.mark.containers
PACKAGE = "@devcontainers/cli@0.89.0"
OWNER = 1001
TESTS = "TESTS=tests/unit/utils/test_utils_connection.py"


@pytest.fixture(scope="session")
def command_line(engine: Engine) -> Path:
    """Return the program `devcontainer`, which npm installs into the folder of the engine."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = engine.folder / "npm"
    done = run(["npm", "install", "--silent", "--prefix", folder, PACKAGE], os.environ)
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be installed: {last_line(done.stderr + done.stdout)}")
    return folder / "node_modules" / ".bin" / "devcontainer"


@pytest.fixture
def as_owner(engine: Engine) -> list[str | Path]:
    """Return the beginning of a command that runs as OWNER, who exists in the namespaces of the engine."""
    home, accounts, enter = engine.folder / "home", engine.folder / "passwd", engine.enter("--mount")
    home.mkdir(exist_ok=True)
    os.chown(home, OWNER, OWNER)
    os.chown(engine.folder / "docker.sock", 0, OWNER)
    accounts.write_text(f"{Path('/etc/passwd').read_text()}developer:x:{OWNER}:{OWNER}::{home}:/bin/sh\n")
    run([*enter, "mount", "--bind", accounts, "/etc/passwd"], os.environ, check=True)
    as_owner = ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups")
    return [*enter, *as_owner, "env", f"HOME={home}", f"BUILDX_CONFIG={home}"]


def test_devcontainer_runs_tests_as_the_owner_of_the_checkout(
    command_line: Path, as_owner: list[str | Path], new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack("devcontainer", owner=OWNER, POSTGRES_PUBLISHED_PORT="5435", JUPYTER_PUBLISHED_PORT="8890")

    def devcontainer(command: str, *arguments: str) -> str:
        program = [*as_owner, command_line, command, "--workspace-folder", stack.checkout]
        return run([*program, *arguments], stack.engine.environment, check=True).stdout

    assert '"outcome":"success"' in devcontainer("up")
    assert "Usage:" in devcontainer("exec", "python", "main.py", "--help")
    devcontainer("exec", "git", "status")
    assert re.search(
        r"\d+ passed", devcontainer("exec", "make", "test", "TESTS=tests/unit/utils/test_utils_connection.py")
    )


def test_only_dangling_images_of_the_project_are_pruned(built: Stack) -> None:
    """Images without a name are left behind by each rebuild; those of other projects are none of ours."""
    text = (built.checkout / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    prune = shlex.split(re.search(r'"initializeCommand": "docker (.*)"', text)[1])
    context = built.engine.folder / "other_project"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM homebuddy-leads-etl\nRUN true")
    ours = built.engine.docker("build", "--quiet", context).stdout.strip()
    others = built.engine.docker(
        "build", "--quiet", "--label", "org.opencontainers.image.title=other", context
    ).stdout.strip()
    assert built.engine.docker(*prune).returncode == 0
    left = built.engine.docker("image", "ls", "--no-trunc", "--quiet", "--filter", "dangling=true").stdout.split()
    assert others in left
    assert ours not in left
    built.engine.docker("image", "rm", others)
