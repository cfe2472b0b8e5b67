"""A Chromium for the tests: an installed one, or the package of the distribution; and axe-core."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS_TO_INSTALL = 180
QUIET = (
    "--no-sandbox",  # root's Chromium has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless Chromium. Skips the test, with the reason, if there is none and none can be installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = found() or installed()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


def found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def installed() -> str:
    """Install the package of the distribution, if that needs no password."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip(f"no Chromium on PATH ({', '.join(NAMES)}), and only root could install one")
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"]
    base_environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=base_environment, capture_output=True, text=True, timeout=SECONDS_TO_INSTALL, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"no Chromium on PATH, and it could not be installed in {SECONDS_TO_INSTALL} s")
    path = found()
    if path is None:
        pytest.skip(f"no Chromium on PATH, and it could not be installed: {done.stderr.strip()[-200:]}")
    return path


AXE_VERSION = "4.14.1"


def axe_core() -> str:
    """Return the script of axe-core, from npm's registry. Skips the test, with the reason, if it cannot be had."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / f"homebuddy-axe-core-{AXE_VERSION}"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip("no axe-core in the cache, and no npm to install it")
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-save",
            "--ignore-scripts",
            "--prefix",
            str(folder),
            f"axe-core@{AXE_VERSION}",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_INSTALL, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"axe-core could not be installed in {SECONDS_TO_INSTALL} s")
        if not script.exists():
            pytest.skip(f"axe-core could not be installed: {done.stderr.strip()[-200:]}")
    return script.read_text(encoding="utf-8")
