"""A small disk for a tablespace: a tmpfs that reports "No space left on device" when it is full.

Root mounts it. Other users mount it in the mount namespace of a separate process, and access it through the folder of
that process in /proc. Tests are skipped where neither is permitted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from etl.local import embedded, postgres_cluster, postgres_server

TABLESPACE = "small_disk"
MEGABYTES = 96
"""An empty database takes eight; while a database is moved to the disk, old files may still exist."""


class SmallDisk:
    """A mounted disk and a file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def fill(self, left: int) -> None:
        """Fill the disk except for this many bytes."""
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, self.free - left)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def tablespace_on_a_small_disk(server_root: Path) -> Iterator[SmallDisk]:
    """Create the tablespace `TABLESPACE` on a small disk. Restarts the server, as only a superuser may create it."""
    server_root = server_root.resolve()
    with ExitStack() as stack:
        disk = SmallDisk(stack.enter_context(_mounted(server_root / "small-disk")))
        folder = disk.folder / "tablespace"
        folder.mkdir(mode=0o700)
        cluster = postgres_cluster.existing_cluster(server_root)
        cluster.chown(folder)
        embedded.stop_postgres(server_root)
        stack.callback(_drop, server_root)
        postgres_server.run_single_user(
            cluster, f"create tablespace {TABLESPACE} owner {postgres_cluster.ROLE} location '{folder.as_posix()}'"
        )
        embedded.start_postgres(server_root)
        yield disk


def _drop(server_root: Path) -> None:
    embedded.stop_postgres(server_root)
    postgres_server.run_single_user(
        postgres_cluster.existing_cluster(server_root), f"drop tablespace if exists {TABLESPACE}"
    )
    embedded.start_postgres(server_root)


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        with _mounted_by_root(folder) if os.geteuid() == 0 else _mounted_in_a_namespace(folder) as reached:
            yield reached
    finally:
        folder.rmdir()


@contextmanager
def _mounted_by_root(folder: Path) -> Iterator[Path]:
    _run_or_skip(*_mount(folder, mode="0711"))
    try:
        yield folder
    finally:
        # lazily: the server may still have files open
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _mounted_in_a_namespace(folder: Path) -> Iterator[Path]:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    _run_or_skip(*namespace, *_mount(folder, mode="0700"))
    wait = 'mount -t tmpfs -o "$1" tmpfs "$0" && echo mounted && read -r _'
    with subprocess.Popen(
        [*namespace, "sh", "-c", wait, str(folder), _options("0700")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n"
        yield Path(f"/proc/{holder.pid}/root") / folder.relative_to("/")


def _mount(folder: Path, mode: str) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", _options(mode), "tmpfs", str(folder)]


def _options(mode: str) -> str:
    return f"size={MEGABYTES}m,mode={mode}"


def _run_or_skip(*command: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no small disk is available: {command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
