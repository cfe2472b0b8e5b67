"""`make audit` finds what is wrong, and never calls clean what it could not look at. The advisories are made up."""

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

import pytest
from support import PROJECT

FAULTY = "pandas"


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
def advisories(*, faulty: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as OSV does, and the libraries that it was asked about."""
    asked: list[str] = []

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = package["package"]["name"]
            asked.append(f"{name}=={package['version']}")
            answer = json.dumps({"vulns": [advisory(name)]} if name == faulty else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()


def advisory(name: str) -> dict[str, object]:
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}
    return {"id": "PYSEC-2026-1", "summary": "bad", "affected": [affected]}


def test_every_pinned_library_is_audited() -> None:
    with advisories() as (url, asked):
        code, said = audit("--only", "dependencies", "--osv-url", url)
    assert code == 0, said
    assert "no known fault" in said
    for name in ("requirements.txt", "requirements-dev.txt", "benchmarks/peers/requirements.txt"):
        pins = [
            line.split()[0] for line in (PROJECT / name).read_text().splitlines() if "==" in line and ";" not in line
        ]
        assert pins
        assert {pin.partition("[")[0] + "==" + pin.partition("==")[2] if "[" in pin else pin for pin in pins} <= set(
            asked
        )


def test_library_with_a_known_vulnerability_is_named() -> None:
    with advisories(faulty=FAULTY) as (url, _):
        code, said = audit("--only", "dependencies", "--osv-url", url)
    assert code == 1
    assert f"dependencies: {FAULTY} " in said
    assert "has PYSEC-2026-1, mended in 99.0" in said


def test_audit_without_a_connection_fails() -> None:
    code, said = audit("--only", "dependencies", "--osv-url", "http://127.0.0.1:9/v1/query")
    assert code == 3
    assert "dependencies: NOT AUDITED" in said


# --- Secrets ----------------------------------------------------------------------------------------------------------


def test_no_file_contains_an_unknown_secret() -> None:
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    code, said = audit("--only", "secrets")
    assert code == 0, said


def test_secret_in_a_file_is_found_and_not_shown(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".secrets.baseline", tmp_path)
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
    (tmp_path / "notes.md").write_text(f"aws_secret_access_key = '{secret}'\n")
    (tmp_path / "clean.md").write_text("nothing\n")
    for command in (("init", "--quiet"), ("add", ".")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    code, said = audit("--only", "secrets", project=tmp_path)
    assert code == 1
    assert "secrets: notes.md:1 looks like one" in said
    assert secret not in said
    assert "clean.md" not in said
