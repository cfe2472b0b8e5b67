"""Check versions, settings and connections of a Dask cluster at the start of a run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from distributed import Client

from etl.utils.errors import ClusterError, LockHeldError, PipelineError, SettingsError
from etl.utils.retry import retry_transient
from etl.utils.utils_connection import PROJECT, Settings, local_settings
from etl.warehouse.sql_scripts import table_exists
from etl.warehouse.transactions import transaction

CONNECTIONS_OF_A_THREAD = 2
"""Connections per thread of a worker: step 3 reads a day on one connection and writes it on another."""
CONNECTIONS_OF_THE_DRIVER = 3
"""Connections for the run lock, a transaction, and a query after a lost connection."""
SECONDS_TO_ANSWER = 30.0
Result = TypeVar("Result")
CLIENT_NAME = "homebuddy-leads-etl"


def ask_cluster(ask: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function that communicates with the cluster, with a timeout: Dask would wait forever. Returns its result.

    Raises:
        ClusterError: there was no answer within `SECONDS_TO_ANSWER`, or Dask raised an error.
        PipelineError: raised by the function itself.
    """
    answer: Future[Result] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is passed on
            answer.set_exception(error)

    threading.Thread(target=wait, name="question", daemon=True).start()
    try:
        return answer.result(SECONDS_TO_ANSWER)
    except TimeoutError:
        fault = f"within {SECONDS_TO_ANSWER:.0f} s"
    except PipelineError:
        raise
    except Exception as error:  # noqa: BLE001 - Dask raises many types, for example if a worker is lost
        fault = f"correctly: {first_line(error)}"
    raise ClusterError(
        f"the scheduler or one of its workers did not answer {fault}",
        hint="check their logs; if a worker was lost or has just started, rerun",
    )


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def naming_worker(worker: str) -> Iterator[None]:
    """Prefix the messages of pipeline errors that the block raises with the name of the worker."""
    try:
        yield
    except PipelineError as fault:
        raise type(fault)(f"{worker}: {fault.message}", hint=fault.hint, transient=fault.transient) from fault


UPDATE_HINT = "update it to the version of the driver, and restart it"


def check_versions(client: Client) -> None:
    """Raise unless scheduler and workers have the driver's versions of Python (major and minor) and Dask.

    Raises:
        ClusterError: names each node with another version; or see `ask_cluster`.
    """
    versions: Any = ask_cluster(client.get_versions)
    ours = _versions_of(versions["client"])
    others = {"the scheduler": versions["scheduler"]} | {
        f"worker {address}": theirs for address, theirs in versions["workers"].items()
    }
    faults = [
        f"{who} has {name} {_versions_of(theirs)[name]}, the driver {ours[name]}"
        for who, theirs in others.items()
        for name in ours
        if _versions_of(theirs)[name] != ours[name]
    ]
    if faults:
        raise ClusterError(
            f"versions differ: {'; '.join(faults)}",
            hint="install the driver's requirements-dask.txt and version of Python on the scheduler and all workers, "
            "then restart them",
        )


def _versions_of(reported: Any) -> dict[str, str]:
    packages = reported["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])
    return {"python": python, **{name: str(packages[name]) for name in ("dask", "distributed")}}


def check_code(client: Client) -> None:
    """Raise unless scheduler and workers have the driver's version of the pipeline.

    Raises:
        ClusterError: names a node that has another version, or cannot load the pipeline; or see `ask_cluster`.
    """
    digests: dict[str, Any] = {"the scheduler": ask_cluster(_digest_of_scheduler, client)}
    workers = ask_cluster(client.run, code_digest, on_error="return")
    digests |= {f"worker {address}": digest for address, digest in workers.items()}
    for who, digest in digests.items():
        if isinstance(digest, BaseException):
            raise ClusterError(
                f"{who} cannot load the pipeline: {first_line(digest)}",
                hint="see its log; start it in the project's folder, with requirements.txt installed",
            ) from digest
        if digest != code_digest():
            raise ClusterError(f"{who} has another version of the pipeline", hint=UPDATE_HINT)


def _digest_of_scheduler(client: Client) -> Any:
    try:
        return client.run_on_scheduler(code_digest)
    except (ImportError, AttributeError) as error:  # it has no pipeline, or another version
        return error


def check_no_other_driver(client: Client, settings: Settings) -> None:
    """Raise if another run uses these workers: when it ends, it would cancel the transactions of this run.

    Raises:
        LockHeldError: another run is connected to the scheduler.
        ClusterError: see `ask_cluster`.
    """
    drivers = ask_cluster(client.run_on_scheduler, lambda dask_scheduler: list(dask_scheduler.clients))
    if any(CLIENT_NAME in driver and driver != client.id for driver in drivers):
        raise LockHeldError(
            f"another run is active on the cluster of {settings.dask_scheduler_address}",
            hint="wait for it to end, or use a separate scheduler and workers for this warehouse",
        )


def check_warehouse(client: Client, settings: Settings, run_id: str) -> None:
    """Raise unless each worker finds this run in meta.pipeline_runs of its warehouse.

    Raises:
        PipelineError: names a worker and the problem; or see `ask_cluster`.
    """
    seen = ask_cluster(client.run, check_run_is_known, settings.postgres_address, run_id, on_error="return")
    for worker, fault in seen.items():
        with naming_worker(f"worker {worker}"):
            if isinstance(fault, PipelineError):
                raise fault
            if isinstance(fault, BaseException):
                raise ClusterError(
                    f"cannot reach its warehouse: {first_line(fault)}", hint="see the worker's log, then rerun"
                ) from fault


@cache
def check_run_is_known(warehouse: str, run_id: str) -> None:
    """Raise unless meta.pipeline_runs of this worker's warehouse contains the run. A success is cached.

    Raises:
        SettingsError: the run is missing, so this worker uses another warehouse than the driver; or its role is another
            one, so the driver could not alter its tables; or see `local_settings`.
        PostgresError: the warehouse cannot be read.
    """
    settings = local_settings(warehouse)
    with transaction(settings) as db:
        if table_exists(db, "meta.pipeline_runs"):
            db.execute(
                "select pg_get_userbyid(relowner), current_user, pg_has_role(relowner, current_user, 'usage') "
                "from meta.pipeline_runs cross join pg_class "
                "where run_id = %s and pg_class.oid = 'meta.pipeline_runs'::regclass",
                (run_id,),
            )
            if found := db.fetchone():
                owner, role, may_alter_its_tables = found
                if may_alter_its_tables:
                    return
                raise SettingsError(
                    f"its role is {role}, the driver's is {owner}", hint=f"set its POSTGRES_USER to {owner}"
                )
    raise SettingsError(
        f"its warehouse {settings.postgres_address} does not contain this run",
        hint="set POSTGRES_HOST, POSTGRES_PORT and POSTGRES_DB of the workers to the driver's warehouse",
    )


@cache
def code_digest() -> str:
    """Return a digest of the code and scripts of the pipeline, by which the nodes of a cluster compare versions."""
    files = sorted([*(PROJECT / "etl").rglob("*.py"), *(PROJECT / "sql_scripts").rglob("*.*")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


_FREE_CONNECTIONS = """
with others as (
    select datname, usename
    from pg_stat_activity
    where
        -- backend_type is NULL for sessions of other users, unless this role is in pg_read_all_stats
        (backend_type = 'client backend' or backend_type is null and usename is not null and datname is not null)
        and not (
            usename = current_user
            and datname = current_database()
            and application_name = current_setting('application_name')
        )
)

select
    least(  -- ignores NULL: no limit
        (
            select sum(case name when 'max_connections' then setting::int else -setting::int end)
            from pg_settings
            where name in ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
        ) - count(*),
        (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user)
        - count(*) filter (where usename = current_user),
        (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
        - count(*) filter (where datname = current_database())
    )
from others
    """


@retry_transient()
def check_connection_budget(settings: Settings, threads: int) -> None:
    """Raise unless PostgreSQL has enough free connections for the threads of all workers and the driver.

    Raises:
        ClusterError: PostgreSQL has too few free connections; the hint contains the maximum number of threads, unless
            not even one thread is possible.
        PostgresError: PostgreSQL cannot be reached.
    """
    with transaction(settings) as db:
        # Connections of the pipeline count as free: the driver uses them, or they are idle connections of workers.
        db.execute(_FREE_CONNECTIONS)
        (free,) = db.fetchone() or (0,)
    needed = CONNECTIONS_OF_A_THREAD * threads + CONNECTIONS_OF_THE_DRIVER
    if needed > free:
        allowed = max(0, (free - CONNECTIONS_OF_THE_DRIVER) // CONNECTIONS_OF_A_THREAD)
        fewer = f"start fewer workers, or fewer threads per worker (--nthreads), at most {allowed} threads in all; or "
        raise ClusterError(
            f"the workers' {threads} threads need {needed} connections, "
            f"{CONNECTIONS_OF_A_THREAD} each and {CONNECTIONS_OF_THE_DRIVER} for the driver; "
            f"{settings.postgres_address} has {max(0, free)} available",
            hint=f"{fewer if allowed else ''}raise max_connections, or the connection limit of the role or database",
        )
