"""A server in front of the S3 server that injects faults."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["503", "403", "reset", "short"]


class Stub:
    """Inject a fault into the first `times` responses to requests of `method` whose path ends with `key`."""

    def __init__(self, upstream: str, fault: Fault | Callable[[], None], method: str, key: str, times: int) -> None:
        self.upstream = upstream
        self.fault = fault
        self.method = method
        self.key = key
        self.times = times
        self.injected = 0
        self._counting = threading.Lock()

    def next_fault(self, method: str, path: str) -> Fault | None:
        if method != self.method or not urlsplit(path).path.rstrip("/").endswith(self.key):
            return None
        with self._counting:
            if self.injected >= self.times:
                return None
            self.injected += 1
        if callable(self.fault):
            self.fault()
            return None
        return self.fault


ERRORS = {"503": (503, "SlowDown", "Please reduce your request rate."), "403": (403, "AccessDenied", "Access Denied")}


class _Handler(BaseHTTPRequestHandler):
    """Forward requests to the S3 server, and inject the faults of the stub into its responses."""

    stub: Stub
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        fault = self.stub.next_fault(self.command, self.path)
        if fault in ERRORS:
            self._refuse(*ERRORS[fault])
        else:
            self._forward(fault)

    do_GET = do_HEAD = _answer  # noqa: N815 - named by http.server

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection(urlsplit(self.stub.upstream).netloc, timeout=10)
        upstream.request(self.command, self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if fault else body)
        if fault == "reset":
            # SO_LINGER with timeout 0 makes close() send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def faulty_s3(stub: Stub) -> Iterator[str]:
    """Yield the endpoint to use instead of the real one."""
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
