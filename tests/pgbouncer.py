"""A PgBouncer between the pipeline and its server; without the program the test is skipped."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import accepts_connections, free_port, unprivileged_account, wait_until

from etl.utils.utils_connection import Settings


@contextmanager
def pgbouncer(settings: Settings, **options: object) -> Iterator[Settings]:
    """Start a PgBouncer with the options of its configuration file. Yields settings that connect through it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    account, port = unprivileged_account(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    user, password = settings.postgres_user, settings.postgres_password.get_secret_value()
    (folder / "users.txt").write_text(f'"{user}" "{password}"\n')
    given = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users.txt",
        **options,
    }
    lines = [f"{name} = {value}" for name, value in given.items()]
    databases = f"[databases]\n* = host={settings.postgres_host} port={settings.postgres_port}\n"
    (folder / "pgbouncer.ini").write_text(databases + "[pgbouncer]\n" + "\n".join(lines) + "\n")
    log = folder / "log"
    if account:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, account)
    with log.open("wb") as output:
        process = subprocess.Popen([program, folder / "pgbouncer.ini"], user=account, stdout=output, stderr=output)
    try:
        wait_until(lambda: accepts_connections(port), process, log)
        yield settings.model_copy(update={"postgres_host": "127.0.0.1", "postgres_port": port})
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
