"""Measurement of a program as a whole process: time, resources, and traffic with PostgreSQL."""

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
    """Resources that one process used."""

    seconds: float
    cpu_seconds: float
    """User and system time of the process."""
    server_cpu_seconds: float
    """User and system time of all processes of PostgreSQL while the program ran."""
    other_cpu_seconds: float
    """CPU time of all other processes, including S3. A high value means that the machine was busy with other work."""
    peak_memory_bytes: int
    wal_bytes: int
    commits: int
    step_seconds: Mapping[str, float] = field(default_factory=dict)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment of a measured program. Unset settings are empty strings, which override `.env`."""
    variables = {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)
        for name, value in settings
    }
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(PROJECT),
        "PGSSLMODE": "disable",  # the proxy has to read the messages
        "PGGSSENCMODE": "disable",
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }


def run_measured(command: Sequence[str | Path], settings: Settings, servers: Servers) -> Measurement:
    """Run a program and measure it.

    Raises:
        PipelineError: the program failed. The message contains the end of its output.
    """
    database = settings.postgres_db
    environment = environment_of(settings)
    cpu_before, wal_before, commits_before = servers.cpu_seconds(), servers.wal_position(), servers.commits(database)
    busy_before, started = _busy_seconds(), time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - no shell, and no command comes from outside
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
            f"{' '.join(Path(part).name for part in command)} exited with status {process.returncode}: {said[-2000:]}",
            hint="fix the cause and rerun: a benchmark with a failed run is not valid",
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
    """Return the CPU seconds of all processes since the machine was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


class _MemoryWatch:
    """A thread that polls the peak memory (VmHWM) of a process.

    The value that wait4 returns is not usable: it is never less than the memory of the parent process.
    """

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self.ended = threading.Event()
        self._status = Path(f"/proc/{pid}/status")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with suppress(OSError):  # the process has exited, or this is not Linux
            while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
                for line in self._status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * KILOBYTE)


# --- traffic with PostgreSQL ------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """Traffic between a program and PostgreSQL."""

    sessions: int = 0
    statements: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    copied_in_bytes: int = 0
    copied_out_bytes: int = 0


STATEMENTS = b"QP"
"""Message types of the protocol: Query, with one or more statements, and Parse."""
COPY_DATA = ord("d")


@contextmanager
def counting_proxy(host: str, server_port: int) -> Iterator[tuple[int, Traffic]]:
    """Start a proxy to PostgreSQL. Yields its port and the counted traffic. Sessions must not be encrypted."""
    traffic = Traffic()
    counting = threading.Lock()
    listener = socket.create_server((host, 0))

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, server_port)) as server:
            sent, received = Messages(untyped=1), Messages()
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
        with suppress(OSError):  # the listener is closed
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


def _pass_on(source: socket.socket, target: socket.socket, messages: Messages) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 18):
            target.sendall(chunk)
            messages.read(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Messages:
    """Counter of the messages in one direction, which reads only their headers."""

    def __init__(self, untyped: int = 0) -> None:
        self.untyped = untyped  # number of initial messages without a type
        self.total = 0
        self.count = [0] * 256
        self.payload = [0] * 256
        self._rest = 0  # remaining bytes of the current message's payload
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
