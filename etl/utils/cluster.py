"""The days on a Dask cluster: the threads of its workers in the place of this machine's.

The steps do not know: they map functions over days through an executor, and Dask has one. What a worker gets is the
name of a function, a run and a day; it reads S3 and writes PostgreSQL by itself, with the settings of its own
environment, or over TLS with those of the driver. The driver holds the lock of the run, and publishes what the workers
have built.

This room knows Dask, and is entered with a scheduler's address alone (`--scheduler`).
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar
from weakref import WeakSet

from distributed import Client, Worker, WorkerPlugin, get_worker
from distributed import Future as DaskFuture
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from pydantic import SecretStr

from etl.utils.errors import ClusterError, LockHeldError, PipelineError, SettingsError
from etl.utils.patience import patient
from etl.utils.transactions import allow_transactions, close_connections, end_transactions, transaction
from etl.utils.utils_connection import PROJECT, Settings, describe_postgres, disown, entrust, settings_of_this_process

log = logging.getLogger(__name__)

CONNECTIONS_OF_A_THREAD = 2
"""Step 3 reads a day on one connection and writes it on another."""
CONNECTIONS_OF_THE_DRIVER = 3
"""The lock of the run, a transaction, and a question after a lost connection."""

SECONDS_TO_CONNECT = 5
SECONDS_TO_ANSWER = 30.0
SECONDS_TO_FETCH_A_RESULT = 150.0
"""Where its worker has died since, Dask looks for that one for half a minute, and then has the work done again."""
SECONDS_TO_WAIT_FOR_WORKERS = 60.0
"""For the first one to join, and for another one when all are lost: it takes a worker some seconds to start."""
SECONDS_BETWEEN_LOOKS = 2.0

Result = TypeVar("Result")

NAME = "homebuddy-leads-etl"


@dataclass(frozen=True)
class Cluster:
    """Workers that are ready for a run."""

    executor: Executor
    explained_errors: Callable[[], AbstractContextManager[None]]
    """Turns what Dask raises while work is waited for into one `ClusterError` that says what to do."""


@contextmanager
def dask_cluster(settings: Settings, run_id: str) -> Iterator[Cluster]:
    """The workers behind DASK_SCHEDULER_ADDRESS, looked over and made ready for a run.

    When the block ends, work that is still in hand is rolled back, and the workers close their connections.

    Raises:
        SettingsError: a worker cannot work with the settings that it has.
        ClusterError: there is no scheduler, no worker, or one of another version.
        PostgresError: the server has not the connections that the workers' threads need.
    """
    with _connected(settings) as client:
        _check_versions(client)
        _check_code(client)
        _check_drivers(client, settings)
        try:
            _answer(client.register_plugin, _RunPlugin.of(settings), name=NAME)
            _answer(client.forward_logging, "etl")
            _check_warehouse(client, settings, run_id)
            check_connection_budget(settings, sum(_answer(client.nthreads).values()))
            tasks = _TaskExecutor(client, describe_postgres(settings), run_id)
            with _WorkerWatch(client, tasks, settings.dask_scheduler_address) as watch:
                yield Cluster(tasks, partial(_explained_errors, watch))
        finally:
            with suppress(ClusterError):  # who does not answer has nothing in hand, or is waited for by the books
                for end, of_what in ((client.unforward_logging, "etl"), (client.unregister_worker_plugin, NAME)):
                    if client.status == "running":
                        _answer(end, of_what)


@contextmanager
def _connected(settings: Settings) -> Iterator[Client]:
    address = settings.dask_scheduler_address
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is told once, by us
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False, name=NAME)
    except Exception as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}: {_first_line(error)}",
            hint="start one with `python -m dask scheduler`; without its address the days run on this machine",
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_WAIT_FOR_WORKERS)
        except TimeoutError:
            raise ClusterError(f"no worker has joined {address}", hint=_start_workers(address)) from None
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=SECONDS_TO_CONNECT)


def _answer(ask: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """What scheduler and workers answer, in a time that is bounded: Dask itself would wait for ever.

    Raises:
        ClusterError: they do not.
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
    except Exception as error:  # noqa: BLE001 - a worker that was lost, say: Dask has many words for it
        fault = f"as it should: {_first_line(error)}"
    raise ClusterError(
        f"the scheduler, or one of its workers, does not answer {fault}",
        hint="see their logs; where one was lost or started just now, run again",
    )


def _start_workers(address: str | None) -> str:
    return (
        f"start some, in the project's folder, with the settings in their environment: python -m dask worker {address}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _TaskExecutor(Executor):
    """Work as tasks of Dask.

    Its own executor, `Client.get_executor()`, does the same, but for two things. It keeps results until it is garbage:
    when a worker is lost, those that lay there are made again, although the run has them and has gone on. And what is
    cancelled just when it ends stays unfinished for ever.
    """

    def __init__(self, client: Client, warehouse: str, run_id: str) -> None:
        self._client = client
        self._run = (digest_of_code(), warehouse, run_id)
        self._outcomes: WeakSet[Future[Any]] = WeakSet()

    def submit(self, work: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        sealed = partial(work, *args, **kwargs)
        # As bytes: the scheduler would unpickle it otherwise, settings and all, and has none.
        task = self._client.submit(
            _unseal,
            pickle.dumps(sealed),
            *self._run,
            key=f"{sealed.func.__name__}-{uuid.uuid4()}",
            pure=False,
        )
        outcome: Future[Result] = Future()
        self._outcomes.add(outcome)
        outcome.add_done_callback(partial(_cancel_with, task))
        task.add_done_callback(partial(_pass_on, outcome))
        return outcome

    def fail(self, fault: ClusterError) -> None:
        """Have all that is waited for end with this."""
        for outcome in list(self._outcomes):
            with suppress(InvalidStateError):  # it has ended
                outcome.set_exception(fault)


def _cancel_with(task: DaskFuture[Any], outcome: Future[Any]) -> None:
    if outcome.cancelled():
        with suppress(Exception):  # a client that is closed has cancelled it already
            task.cancel()


def _pass_on(outcome: Future[Any], task: DaskFuture[Any]) -> None:
    client = task.client
    with suppress(InvalidStateError):  # it was cancelled meanwhile
        try:
            outcome.set_result(task.result(timeout=SECONDS_TO_FETCH_A_RESULT))
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            if isinstance(error, CancelledError) or client.status in ("closing", "closed"):
                outcome.cancel()
            elif isinstance(error, TimeoutError):
                outcome.set_exception(
                    ClusterError(f"{task.key} is done, and Dask does not tell with what result", hint="run again")
                )
            else:
                outcome.set_exception(error)
    task.release()


def _unseal(sealed: bytes, digest: str, warehouse: str, run_id: str) -> Any:
    """Carry out a task, on a worker. One that has joined since the run began is looked over first."""
    me = f"worker {get_worker().address}"
    if digest != digest_of_code():
        raise ClusterError(f"{me} has another version of the pipeline", hint=_UPDATE)
    with _named(me):
        _find_the_run(warehouse, run_id)
    return pickle.loads(sealed)()  # noqa: S301 - it comes from the driver, by way of a scheduler that could run anything


@contextmanager
def _named(worker: str) -> Iterator[None]:
    """Have an error say which worker it is about."""
    try:
        yield
    except PipelineError as fault:
        raise type(fault)(f"{worker}: {fault.message}", hint=fault.hint, transient=fault.transient) from fault


_UPDATE = "update it to the driver's, and start it anew"


# --- the workers, looked over ---------------------------------------------------------------------


def _check_versions(client: Client) -> None:
    """Hold that scheduler and workers run the driver's Python and Dask.

    Raises:
        ClusterError: naming each that does not.
    """
    versions: Any = _answer(client.get_versions)
    ours = _versions_of(versions["client"])
    others = {"the scheduler": versions["scheduler"]} | {
        f"worker {address}": theirs for address, theirs in versions["workers"].items()
    }
    faults = [
        f"{who} has {name} {_versions_of(theirs)[name]}, and not {ours[name]}"
        for who, theirs in others.items()
        for name in ours
        if _versions_of(theirs)[name] != ours[name]
    ]
    if faults:
        raise ClusterError(
            f"another version is at work: {'; '.join(faults)}",
            hint="install the same requirements-dask.txt everywhere, on the same Python, and start them anew",
        )


def _versions_of(reported: Any) -> dict[str, str]:
    packages = reported["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])
    return {"python": python, **{name: str(packages[name]) for name in ("dask", "distributed")}}


def _check_code(client: Client) -> None:
    """Hold that scheduler and workers have this very version of the pipeline.

    Raises:
        ClusterError: naming one that has not.
    """
    digests: dict[str, Any] = {"the scheduler": _answer(client.run_on_scheduler, digest_of_code)}
    workers = _answer(client.run, digest_of_code, on_error="return")
    digests |= {f"worker {address}": digest for address, digest in workers.items()}
    for who, digest in digests.items():
        if isinstance(digest, BaseException):
            raise ClusterError(
                f"{who} cannot be asked for its pipeline: {_first_line(digest)}",
                hint="see its log; it has to be started in the project's folder, where requirements.txt is installed",
            ) from digest
        if digest != digest_of_code():
            raise ClusterError(f"{who} has another version of the pipeline", hint=_UPDATE)


def _check_drivers(client: Client, settings: Settings) -> None:
    """Hold that no other run is at work on these workers: when it ended, it would end the transactions of this one.

    Raises:
        LockHeldError: there is one.
    """
    others = [driver for driver in _answer(client.run_on_scheduler, _drivers) if driver != client.id]
    if others:
        raise LockHeldError(
            f"another run is at work on the cluster of {settings.dask_scheduler_address}",
            hint="wait for it to end, or give this warehouse a scheduler and workers of its own",
        )


def _drivers(dask_scheduler: Any) -> list[str]:
    return [client for client in dask_scheduler.clients if NAME in client]


def _check_warehouse(client: Client, settings: Settings, run_id: str) -> None:
    """Hold that each worker finds this very run in the books of its warehouse.

    Raises:
        PipelineError: naming a worker, and what it lacks.
    """
    seen = _answer(client.run, _find_the_run, describe_postgres(settings), run_id, on_error="return")
    for worker, fault in seen.items():
        with _named(f"worker {worker}"):
            if isinstance(fault, PipelineError):
                raise fault
            if isinstance(fault, BaseException):
                raise ClusterError(
                    f"it cannot be asked for its warehouse: {_first_line(fault)}", hint="see its log, then run again"
                ) from fault


@cache
def _find_the_run(warehouse: str, run_id: str) -> None:
    """What a worker makes sure of, once for a run: that it is in the books of its warehouse."""
    settings = settings_of_this_process(warehouse)
    with transaction(settings) as db:
        db.execute("select to_regclass('meta.pipeline_runs') is not null")
        if db.fetchone() == (True,):
            db.execute("select from meta.pipeline_runs where run_id = %s", (run_id,))
            if db.rowcount:
                return
    raise SettingsError(
        f"it works on {describe_postgres(settings)}, where this run is not in the books",
        hint="have POSTGRES_HOST, POSTGRES_PORT and POSTGRES_DB of the workers name the driver's warehouse",
    )


@cache
def digest_of_code() -> str:
    """By which it is known whether driver and worker are of the same version: all of etl/ and sql_scripts/."""
    files = sorted([*(PROJECT / "etl").rglob("*.py"), *(PROJECT / "sql_scripts").rglob("*.sql")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@patient()
def check_connection_budget(settings: Settings, threads: int) -> None:
    """Hold that PostgreSQL has the connections that so many threads of workers need beside the driver's own.

    Raises:
        ClusterError: it has not; the message says how many threads there may be.
    """
    with transaction(settings) as db:
        # Of our own those count as free: they are the driver's, or wait on workers to be used again.
        db.execute(
            """
            with others as (
                select datname, usename
                from pg_stat_activity
                where
                    backend_type = 'client backend'
                    and not (
                        usename = current_user
                        and datname = current_database()
                        and application_name = current_setting('application_name')
                    )
            )

            select
                (
                    select
                        sum(setting::int) filter (where name = 'max_connections')
                        - sum(setting::int) filter (where name <> 'max_connections')
                    from pg_settings
                    where name in ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
                ) - (select count(*) from others),
                (
                    select rolconnlimit - (select count(*) from others where usename = current_user)
                    from pg_roles
                    where rolname = current_user and rolconnlimit >= 0
                ),
                (
                    select datconnlimit - (select count(*) from others where datname = current_database())
                    from pg_database
                    where datname = current_database() and datconnlimit >= 0
                )
            """
        )
        free, *limits = db.fetchone() or (0, None, None)
    free = min(limit for limit in (free, *limits) if limit is not None)
    needed = CONNECTIONS_OF_A_THREAD * threads + CONNECTIONS_OF_THE_DRIVER
    if needed > free:
        allowed = max(0, (free - CONNECTIONS_OF_THE_DRIVER) // CONNECTIONS_OF_A_THREAD)
        raise ClusterError(
            f"the workers' {threads} threads need {needed} connections, "
            f"{CONNECTIONS_OF_A_THREAD} each and {CONNECTIONS_OF_THE_DRIVER} for the driver; "
            f"{describe_postgres(settings)} has {max(0, free)} for them",
            hint=f"start fewer workers, or with fewer threads (--nthreads): {allowed} threads in all; "
            "or raise max_connections, or the connection limit of the role or database",
        )


# --- what a worker is told for the time of a run --------------------------------------------------


class _RunPlugin(WorkerPlugin):
    """What a worker has from the start of a run, or its own start, until the run ends."""

    def __init__(self, warehouse: str, log_level: int, entrusted: Mapping[str, Any] | None) -> None:
        self.warehouse = warehouse
        self.log_level = log_level
        self.entrusted = entrusted

    @classmethod
    def of(cls, settings: Settings) -> _RunPlugin:
        is_safe = str(settings.dask_scheduler_address).startswith("tls://")
        return cls(
            describe_postgres(settings),
            logging.getLogger("etl").getEffectiveLevel(),
            {name: _revealed(value) for name, value in settings} if is_safe else None,
        )

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        logging.getLogger("etl").setLevel(self.log_level)
        allow_transactions()
        if self.entrusted:
            entrust(Settings(**self.entrusted))

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        with suppress(PipelineError):  # without settings it has done nothing
            settings = settings_of_this_process(self.warehouse)
            end_transactions()
            close_connections(settings)
        disown(self.warehouse)


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


# --- what can go wrong meanwhile ------------------------------------------------------------------


class _WorkerWatch:
    """Gives up waiting when there is no worker any more, or no answer: Dask itself would wait for ever."""

    def __init__(self, client: Client, tasks: _TaskExecutor, address: str | None) -> None:
        self._client = client
        self._tasks = tasks
        self._address = address
        self._ended = threading.Event()
        self.fault = ClusterError(
            f"the scheduler {address} was lost",
            hint="start it and its workers again, then run again: nothing is half done",
        )
        """Why what is waited for was cancelled."""

    def __enter__(self) -> _WorkerWatch:
        threading.Thread(target=self._look, name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _look(self) -> None:
        seen = time.monotonic()
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS) and self._client.status != "closed":
            fault = ClusterError(f"all workers of {self._address} are gone", hint=_start_workers(self._address))
            try:
                if _answer(self._client.nthreads):
                    seen = time.monotonic()
            except ClusterError as error:
                fault = error
            if time.monotonic() - seen > SECONDS_TO_WAIT_FOR_WORKERS:
                self.fault = fault
                self._tasks.fail(fault)
                return


@contextmanager
def _explained_errors(watch: _WorkerWatch) -> Iterator[None]:
    try:
        yield
    except (CancelledError, CommClosedError, ClosedClientError):
        raise watch.fault from None
    except KilledWorker as error:
        what = str(error.task).partition("-")[0]
        raise ClusterError(
            f"{what}: {error.allowed_failures + 1} workers died at it one after the other, "
            f"the last one was {error.last_worker.address}",
            hint="see that worker's log: most likely it had too little memory (--memory-limit, fewer --nthreads)",
        ) from None
