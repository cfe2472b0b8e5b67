"""What is in the pipeline's image, and what is not."""

from __future__ import annotations

import pytest
from stack import Stack

pytestmark = pytest.mark.containers


def in_image(stack: Stack, script: str) -> str:
    done = stack.engine.docker("run", "--rm", "--network", "none", "homebuddy-leads-etl", "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_image_contains_no_secret_and_no_tests(built: Stack) -> None:
    files = in_image(built, "find . -type f").splitlines()
    assert {name.split("/")[1] for name in files} == {
        *("main.py", "etl", "sql_scripts", "requirements.txt", "requirements-dask.txt"),
    }
    assert [name for name in files if ".env" in name or "__pycache__" in name] == []
    assert in_image(built, "grep --recursive --files-with-matches SECRET$ . || true") == ""


def test_image_has_no_compiler_no_engine_and_no_root(built: Stack) -> None:
    assert in_image(built, "for p in gcc cc make git docker; do ! command -v $p || exit 1; done; id --user") == "1000\n"


def test_image_is_smaller_than_its_limit(built: Stack) -> None:
    size = int(built.engine.docker("image", "inspect", "--format", "{{.Size}}", "homebuddy-leads-etl").stdout)
    assert size < 1.2e9, f"{size / 1e9:.2f} GB"


def test_unchanged_image_is_built_from_the_cache(built: Stack) -> None:
    printed = built.compose("--progress", "plain", "build", "python")
    assert "CACHED" in printed
    assert "Downloading" not in printed
