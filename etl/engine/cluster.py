"""Process days on the workers of a Dask cluster instead of threads of this machine.

Steps use the executor of a cluster as they use a thread pool. A task names a function, the run, and what to process
(a file, a day, the leads), and contains no rows: the worker reads S3 and writes PostgreSQL itself, with
the settings of its own environment or, over TLS, those of the driver. The driver holds the run lock, and publishes the
staging tables that the workers have built.

This module is imported only if a scheduler address is set (`--scheduler` or DASK_SCHEDULER_ADDRESS).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

from distributed import Client, Worker, WorkerPlugin

from etl.engine.cluster_checks import (
    CLIENT_NAME,
    ask_cluster,
    check_code,
    check_connection_budget,
    check_no_other_driver,
    check_versions,
    check_warehouse,
    first_line,
)
from etl.engine.dask_executor import SECONDS_TO_WAIT_FOR_WORKERS, TaskExecutor, monitored_workers, start_workers_hint
from etl.utils.errors import ClusterError
from etl.utils.utils_connection import Settings, clear_local_settings, set_local_settings
from etl.warehouse.transactions import allow_transactions, close_connections, end_transactions

SECONDS_TO_CONNECT = 5


@contextmanager
def dask_cluster(settings: Settings, run_id: str) -> Iterator[Executor]:
    """Check and prepare the workers of DASK_SCHEDULER_ADDRESS for a run.

    Yields an executor that runs work on the workers. If workers or the scheduler are lost, its futures raise a
    `ClusterError` with a hint. When the block ends, running transactions are rolled back, and the workers close their
    connections to PostgreSQL.

    Raises:
        SettingsError: a worker has invalid settings, or uses another warehouse.
        PostgresError: a worker or the driver cannot reach its warehouse.
        LockHeldError: another run uses the same workers.
        ClusterError: the scheduler or a worker is missing, does not answer, cannot load the pipeline, or has another
            version of Python, Dask or the pipeline than the driver; or PostgreSQL has too few free connections.
    """
    with _connected(settings) as client:
        check_versions(client)
        check_code(client)
        check_no_other_driver(client, settings)
        try:
            ask_cluster(client.register_plugin, _RunPlugin(settings), name=CLIENT_NAME)
            ask_cluster(client.forward_logging, "etl")
            check_warehouse(client, settings, run_id)
            check_connection_budget(settings, sum(ask_cluster(client.nthreads).values()))
            tasks = TaskExecutor(client, settings, run_id)
            with monitored_workers(client, tasks, settings.dask_scheduler_address):
                yield tasks
        finally:
            with suppress(ClusterError):  # if Dask does not answer, `fenced_transaction` stops tasks that start later
                for end, of_what in ((client.unforward_logging, "etl"), (client.unregister_worker_plugin, CLIENT_NAME)):
                    if client.status == "running":
                        ask_cluster(end, of_what)


@contextmanager
def _connected(settings: Settings) -> Iterator[Client]:
    address = settings.dask_scheduler_address
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are reported once, by the pipeline
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False, name=CLIENT_NAME)
    except Exception as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}: {first_line(error)}",
            hint="start one with `python -m dask scheduler`, or process days on this machine: omit --scheduler and "
            "unset DASK_SCHEDULER_ADDRESS",
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_WAIT_FOR_WORKERS)
        except TimeoutError:
            raise ClusterError(
                f"no worker has joined {address} within {SECONDS_TO_WAIT_FOR_WORKERS:.0f} s",
                hint=start_workers_hint(address),
            ) from None
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=SECONDS_TO_CONNECT)


class _RunPlugin(WorkerPlugin):
    """A plugin that prepares each worker for a run, even one that joins later, and cleans up when the run ends."""

    def __init__(self, settings: Settings) -> None:
        self.warehouse = settings.postgres_address
        self.log_level = logging.getLogger("etl").getEffectiveLevel()
        is_safe = str(settings.dask_scheduler_address).startswith("tls://")
        self.entrusted = dict(settings) if is_safe else None

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        logging.getLogger("etl").setLevel(self.log_level)
        allow_transactions()
        if self.entrusted:
            set_local_settings(Settings(**self.entrusted))

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        end_transactions()
        close_connections()
        clear_local_settings(self.warehouse)
