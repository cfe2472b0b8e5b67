"""A server that answers every log-in with an error, in any language and encoding."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STARTS_A_SESSION = 3 << 16


class RefusingServer:
    """Counts the log-ins that it has answered."""

    def __init__(self, severity: str, sqlstate: str, message: str, encoding: str = "utf-8") -> None:
        fields = (("S", severity), ("V", "FATAL"), ("C", sqlstate), ("M", message))
        body = b"".join(name.encode() + text.encode(encoding) + b"\0" for name, text in fields) + b"\0"
        self._answer = b"E" + struct.pack("!I", len(body) + 4) + body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.log_ins = 0

    def listen(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError, struct.error):
                    self._refuse(client)

    def _refuse(self, client: socket.socket) -> None:
        while True:
            size, request = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
            client.recv(size - 8, socket.MSG_WAITALL) if size > 8 else None
            if request == _STARTS_A_SESSION:
                break
            client.sendall(b"N")  # no TLS
        self.log_ins += 1
        client.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def refusing_server(severity: str, sqlstate: str, message: str, encoding: str = "utf-8") -> Iterator[RefusingServer]:
    server = RefusingServer(severity, sqlstate, message, encoding)
    threading.Thread(target=server.listen, daemon=True).start()
    try:
        yield server
    finally:
        server.close()
