"""`make audit` finds vulnerabilities and secrets, and fails if it cannot check. The advisories are made up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from support import PROJECT

VULNERABLE = "pandas"


def audit(*arguments: str, project: Path = PROJECT) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, PROJECT / ".ci" / "audit.py", "--project", project, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


# --- Dependencies -----------------------------------------------------------------------------------------------------


@contextmanager
def advisories(*, vulnerable: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Start a server that responds like OSV. Yield its URL and the libraries that are queried."""
    queried: list[str] = []

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = package["package"]["name"]
            queried.append(f"{name}=={package['version']}")
            answer = json.dumps({"vulns": [advisory(name)]} if name == vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", queried
        finally:
            server.shutdown()


def advisory(name: str) -> dict[str, object]:
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}
    return {"id": "PYSEC-2026-1", "summary": "bad", "affected": [affected]}


def test_every_pinned_library_is_audited() -> None:
    with advisories() as (url, queried):
        code, output = audit("--only", "dependencies", "--osv-url", url)
    assert code == 0, output
    assert "no known vulnerability" in output
    for name in (
        "requirements.txt",
        "requirements-dask.txt",
        "requirements-dev.txt",
        "benchmarks/peers/requirements.txt",
    ):
        pins = [
            line.split()[0] for line in (PROJECT / name).read_text().splitlines() if "==" in line and ";" not in line
        ]
        assert pins
        assert {pin.partition("[")[0] + "==" + pin.partition("==")[2] if "[" in pin else pin for pin in pins} <= set(
            queried
        )


def test_library_with_a_known_vulnerability_is_named() -> None:
    with advisories(vulnerable=VULNERABLE) as (url, _):
        code, output = audit("--only", "dependencies", "--osv-url", url)
    assert code == 1
    assert f"dependencies: {VULNERABLE} " in output
    assert "has PYSEC-2026-1, fixed in 99.0" in output


def test_audit_without_a_connection_fails() -> None:
    code, output = audit("--only", "dependencies", "--osv-url", "http://127.0.0.1:9/v1/query")
    assert code == 3
    assert "dependencies: NOT AUDITED" in output


# --- Secrets, for which `make lint` scans this checkout ---------------------------------------------------------------


def test_secret_in_a_file_is_found_and_not_shown(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".secrets.baseline", tmp_path)
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
    (tmp_path / "notes.md").write_text(f"aws_secret_access_key = '{secret}'\n")
    (tmp_path / "clean.md").write_text("nothing\n")
    for command in (("init", "--quiet"), ("add", ".")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    code, output = audit("--only", "secrets", project=tmp_path)
    assert code == 1
    assert "secrets: notes.md:1: possible secret" in output
    assert secret not in output
    assert "clean.md" not in output
