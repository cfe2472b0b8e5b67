"""A Dask cluster on loopback: scheduler and workers are processes, started by their command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers import free_port, wait_until
from support import PROJECT, environment_of

from etl.utils.utils_connection import Settings

PORT = "8786"
SCHEDULER = (sys.executable, "-m", "dask", "scheduler", "--host", f"tcp://0.0.0.0:{PORT}", "--no-dashboard")
WORKER = (sys.executable, "-m", "dask", "worker", f"tcp://scheduler:{PORT}", "--nthreads", "1", "--no-dashboard")
PLAIN_WORKER = (*WORKER, "--no-nanny")
"""A worker without a nanny: killing the process kills the worker."""


@dataclass
class DaskCluster:
    """A scheduler and its workers."""

    address: str
    folder: Path
    environment: Mapping[str, str]
    scheduler: subprocess.Popen[bytes]
    worker: Sequence[str]
    stack: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, *arguments: str, inside: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker, without waiting until it joins.

        Args:
            inside: a command that executes another command, such as in a network namespace.
        """
        command = [self.address if argument.endswith(f":{PORT}") else argument for argument in self.worker]
        log = self.folder / f"worker-{len(self.workers)}.log"
        base_environment = {**self.environment, **environment}
        self.workers.append(self.stack.enter_context(_running([*inside, *command, *arguments], log, base_environment)))
        return self.workers[-1]

    @contextmanager
    def other_worker(self, *arguments: str, **environment: str) -> Iterator[None]:
        """Have one worker more while the block runs, with other arguments or variables than the rest."""
        worker = self.start_worker("--no-nanny", *arguments, **environment)
        self.wait_for_workers()
        yield
        worker.terminate()
        worker.wait(10)

    def wait_for_workers(self) -> None:
        """Wait until all workers have joined."""
        for number, worker in enumerate(self.workers):
            log = self.folder / f"worker-{number}.log"
            wait_until(lambda log=log: b"Registered to" in log.read_bytes(), worker, log)

    def logs(self) -> str:
        """Return the logs of scheduler and workers."""
        return "".join(log.read_text() for log in sorted(self.folder.glob("*.log")))


@contextmanager
def dask_cluster(
    folder: Path,
    settings: Settings | None,
    workers: int = 2,
    *,
    protocol: str = "tcp",
    host: str = "127.0.0.1",
    scheduler: Sequence[str] = SCHEDULER,
    worker: Sequence[str] = WORKER,
    **environment: str,
) -> Iterator[DaskCluster]:
    """Start a scheduler, and workers whose environment contains the settings, if any.

    Args:
        scheduler, worker: command lines; the port of addresses in them is replaced by a free one.
        environment: variables of scheduler and workers.
    """
    address, log = f"{protocol}://{host}:{free_port()}", folder / "scheduler.log"
    command = [address if argument.endswith(f":{PORT}") else argument for argument in scheduler]
    of_workers = (environment_of(settings) if settings else {}) | environment
    with ExitStack() as stack:
        process = stack.enter_context(_running(command, log, environment))
        cluster = DaskCluster(address, folder, of_workers, process, worker, stack)
        for _ in range(workers):
            cluster.start_worker()
        cluster.wait_for_workers()
        yield cluster


@contextmanager
def _running(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    base_environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "PYTHONPATH": str(PROJECT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**base_environment, "AWS_EC2_METADATA_DISABLED": "true", **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
