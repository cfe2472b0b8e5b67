"""One engine, one build and one filled warehouse for all tests of containers; what a test stops, it starts again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from base_images import prepare_base_images
from engine import CannotRunError, Engine, run, start_engine
from stack import Stack, make_stack

KEPT = os.environ.get("CONTAINERS_FOLDER")
"""A folder that keeps tools, base images and layers for the next session, which takes half the time."""

NEEDED_MEMORY = 12 << 30
"""Bytes, for data in memory: images, build cache and volumes take some 3 GB, compiling and the services the rest."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with ExitStack() as cleanup:
        folder = Path(KEPT or tempfile.mkdtemp(prefix="homebuddy-containers-"))
        if not KEPT:
            cleanup.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        try:
            engine = start_engine(folder, in_memory=not KEPT and psutil.virtual_memory().available > NEEDED_MEMORY)
            cleanup.callback(engine.close)
            prepare_base_images(engine)
        except CannotRunError as reason:
            pytest.skip(str(reason))
        yield engine


@pytest.fixture(scope="session")
def built(engine: Engine) -> Iterator[Stack]:
    """Yield the stack of all default settings and ports. Its image is built, from a checkout with secrets."""
    stack = make_stack(engine, "homebuddy")
    for folder in ("", "data", ".local", "etl", "etl/local", "sql_scripts", "your_jup_notebooks"):
        (stack.checkout / folder).mkdir(exist_ok=True)
        (stack.checkout / folder / ".env.secret").write_text("SECRET")
    run(["chown", "-R", "1000:1000", stack.checkout], os.environ, check=True)
    stack.compose("build", "python")
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def stack(built: Stack) -> Stack:
    """Return the stack with running services, and with the sample in its warehouse."""
    built.compose("up", "--detach", "--wait")
    built.run_demo()
    return built


@pytest.fixture
def new_stack(built: Stack) -> Iterator[Callable[..., Stack]]:
    """Return a function that makes another stack, which is removed at the end of the test."""
    with ExitStack() as cleanup:

        def make(name: str, **options: Any) -> Stack:
            stack = make_stack(built.engine, name, **options)
            cleanup.callback(stack.down)
            return stack

        yield make
