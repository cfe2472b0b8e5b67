"""One program, run as a whole process: its time, what it took of the machine, and what it asked of PostgreSQL."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import SecretStr

from benchmarks.servers import Servers
from etl.utils.errors import PipelineError
from etl.utils.utils_connection import PROJECT, Settings

KILOBYTE = 1024
SECONDS_BETWEEN_LOOKS = 0.01


@dataclass(frozen=True)
class Measurement:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    """User and system time of the process."""
    server_cpu_seconds: float
    """The same of all processes of PostgreSQL, while it ran."""
    other_cpu_seconds: float
    """Of all other processes, the S3 stand-in included. Where it is high, the machine was busy with something else."""
    peak_memory_bytes: int
    wal_bytes: int
    commits: int
    step_seconds: Mapping[str, float] = field(default_factory=dict)


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables; those that are unset are empty, so that no `.env` fills them in."""
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)
        for name, value in settings
    }


def run_measured(command: Sequence[str | Path], settings: Settings, servers: Servers) -> Measurement:
    """Run a program to its end and measure it.

    Raises:
        PipelineError: it failed; with the end of what it said.
    """
    database = settings.postgres_db
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(PROJECT),
        "PGSSLMODE": "disable",  # nothing on loopback; and the proxy reads along
        "PGGSSENCMODE": "disable",
        "AWS_EC2_METADATA_DISABLED": "true",
        **environment_of(settings),
    }
    cpu_before, wal_before, commits_before = servers.cpu_seconds(), servers.wal_position(), servers.commits(database)
    busy_before, started = _busy_seconds(), time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - no shell, and the commands are ours
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    memory = _MemoryWatch(process.pid)
    try:
        assert process.stdout  # noqa: S101 - it is a pipe
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy = time.perf_counter() - started, _busy_seconds() - busy_before
        memory.ended.set()
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        memory.ended.set()
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise PipelineError(
            f"{' '.join(Path(part).name for part in command)} ended with {process.returncode}: {said[-2000:]}",
            hint="a benchmark only counts when everything in it succeeds",
        )
    servers.wait_until_idle(database)
    cpu, server_cpu = usage.ru_utime + usage.ru_stime, servers.cpu_seconds() - cpu_before
    return Measurement(
        seconds=seconds,
        cpu_seconds=cpu,
        server_cpu_seconds=server_cpu,
        other_cpu_seconds=max(busy - cpu - server_cpu, 0.0),
        peak_memory_bytes=memory.peak_bytes,
        wal_bytes=servers.wal_position() - wal_before,
        commits=servers.commits(database) - commits_before,
    )


def _busy_seconds() -> float:
    """CPU seconds of all processes of the machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


class _MemoryWatch:
    """Reads the peak of a process's memory (VmHWM) again and again while it runs.

    What wait4 says of it is never less than the memory of the process that started it.
    """

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self.ended = threading.Event()
        self._status = Path(f"/proc/{pid}/status")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with suppress(OSError):  # it has ended; or this is no Linux
            while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
                for line in self._status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * KILOBYTE)


# --- what goes over the wire ------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """What passed between a program and PostgreSQL."""

    sessions: int = 0
    statements: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    copied_in_bytes: int = 0
    copied_out_bytes: int = 0


STATEMENTS = b"QP"
"""Message types of the protocol: a simple query (which may hold several), and one to be prepared."""
COPY_DATA = ord("d")


@contextmanager
def counting_proxy(host: str, server_port: int) -> Iterator[tuple[int, Traffic]]:
    """A port that leads to PostgreSQL, and counts what passes. Sessions must not be encrypted."""
    traffic = Traffic()
    counting = threading.Lock()
    listener = socket.create_server((host, 0))

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, server_port)) as server:
            sent, received = _Messages(untyped=1), _Messages()
            back = threading.Thread(target=_pass_on, args=(server, client, received), daemon=True)
            back.start()
            _pass_on(client, server, sent)
            back.join()
        with counting:
            traffic.sessions += 1
            traffic.statements += sum(sent.count[kind] for kind in STATEMENTS)
            traffic.sent_bytes += sent.total
            traffic.received_bytes += received.total
            traffic.copied_in_bytes += sent.payload[COPY_DATA]
            traffic.copied_out_bytes += received.payload[COPY_DATA]

    def listen() -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = listener.accept()
                session = threading.Thread(target=serve, args=(client,), daemon=True)
                sessions.append(session)
                session.start()

    sessions: list[threading.Thread] = []
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield listener.getsockname()[1], traffic
        for session in sessions:
            session.join(timeout=10)
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _pass_on(source: socket.socket, target: socket.socket, messages: _Messages) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 18):
            target.sendall(chunk)
            messages.read(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Messages:
    """Follows the messages of one direction, from head to head, without looking into them."""

    def __init__(self, untyped: int = 0) -> None:
        self.untyped = untyped  # so many messages at the beginning have no type
        self.total = 0
        self.count = [0] * 256
        self.payload = [0] * 256
        self._rest = 0  # of the current message's payload
        self._head = b""

    def read(self, chunk: bytes) -> None:
        self.total += len(chunk)
        position = 0
        while position < len(chunk):
            if self._rest:
                step = min(self._rest, len(chunk) - position)
                self._rest -= step
                position += step
                continue
            size = 4 if self.untyped else 5
            needed = size - len(self._head)
            self._head += chunk[position : position + needed]
            position += needed
            if len(self._head) < size:
                return
            (length,) = struct.unpack("!I", self._head[-4:])
            kind = 0 if self.untyped else self._head[0]
            self.untyped = max(self.untyped - 1, 0)
            self.count[kind] += 1
            self._rest = length - 4
            self.payload[kind] += self._rest
            self._head = b""
