"""A proxy between the pipeline and PostgreSQL that cuts the connection at a COMMIT."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

When = Literal["before", "after", "unnoticed"]
"""Cut before the server receives the COMMIT, after it, or without closing the connection to the server, as when a
firewall drops the connection.
"""
_STARTS_A_SESSION = range(3 << 16, 4 << 16)
"""Protocol 3.x. Other untyped messages ask for encryption, which the server declines, or for a cancellation."""


class CommitCutter:
    """Count the COMMITs of transactions with a commit marker, and cut the connection of number `cut_at`."""

    def __init__(self, server_port: int, cut_at: int, when: When) -> None:
        self.server_port = server_port
        self.cut_at = cut_at
        self.when = when
        self.commits = 0
        self._counting = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def has_cut(self) -> bool:
        return self.commits >= self.cut_at

    def listen(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.server_port))
        threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
        with client, server, _ended(client, server), suppress(OSError, EOFError):
            while True:
                head, body = _read_untyped(client)
                server.sendall(head + body)
                if struct.unpack("!I", body[:4])[0] in _STARTS_A_SESSION:
                    break
            has_written = False
            while True:
                head, body = _read_typed(client)
                has_written |= head[:1] == b"Q" and b"insert into meta.commit_marks" in body
                is_commit = head[:1] == b"Q" and body.upper().startswith(b"COMMIT")
                is_counted, has_written = is_commit and has_written, has_written and not is_commit
                if is_counted and self._is_the_one():
                    if self.when == "unnoticed":
                        client.shutdown(socket.SHUT_RDWR)
                        self._over.wait()
                    if self.when == "after":
                        server.sendall(head + body)
                    return
                server.sendall(head + body)

    def _is_the_one(self) -> bool:
        with self._counting:
            self.commits += 1
            return self.commits == self.cut_at


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with _ended(source, target), suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


@contextmanager
def _ended(*ends: socket.socket) -> Iterator[None]:
    # close() alone does not notify the other side while another thread is reading.
    try:
        yield
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _read_untyped(source: socket.socket) -> tuple[bytes, bytes]:
    head = _read(source, 4)
    return head, _read(source, struct.unpack("!I", head)[0] - 4)


def _read_typed(source: socket.socket) -> tuple[bytes, bytes]:
    head = _read(source, 5)
    return head, _read(source, struct.unpack("!I", head[1:])[0] - 4)


def _read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = source.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


@contextmanager
def cutting_commits(server_port: int, cut_at: int, when: When) -> Iterator[CommitCutter]:
    cutter = CommitCutter(server_port, cut_at, when)
    threading.Thread(target=cutter.listen, daemon=True).start()
    try:
        yield cutter
    finally:
        cutter.close()
