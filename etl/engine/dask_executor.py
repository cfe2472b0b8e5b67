"""An executor that runs work as Dask tasks, and a monitor that makes them fail if no worker is left."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from distributed import Client, get_worker
from distributed import Future as DaskFuture
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from etl.engine.cluster_checks import UPDATE_HINT, Result, ask_cluster, check_run_is_known, code_digest, naming_worker
from etl.utils.errors import ClusterError, SourceError
from etl.utils.utils_connection import Settings

SECONDS_TO_FETCH_A_RESULT = 150.0
"""Longest wait for the result of a finished task. If its worker is lost, Dask tries to reach the worker for half a
minute, then reruns the task."""
SECONDS_TO_WAIT_FOR_WORKERS = 60.0
"""Longest wait for the first worker, and for a new worker or an answer of the scheduler during a run. Starting a worker
takes some seconds."""
SECONDS_BETWEEN_LOOKS = 2.0


def start_workers_hint(address: str | None) -> str:
    command = f"python -m dask worker {address}"
    return f"start workers in the project's folder, with settings in the environment or .env: {command}"


class TaskExecutor(Executor):
    """An executor that runs work as Dask tasks.

    `Client.get_executor()` has two problems. It keeps results until it is garbage-collected, so when a worker is lost,
    Dask recomputes results that the run already has. And its futures never finish if they are cancelled at the moment
    of completion.
    """

    def __init__(self, client: Client, settings: Settings, run_id: str) -> None:
        self._client = client
        self._fault = ClusterError(
            f"the scheduler {settings.dask_scheduler_address} was lost",
            hint="start it and its workers again, then rerun: unfinished work was rolled back",
        )
        self._run = (code_digest(), settings.postgres_address, run_id)
        self._outcomes: WeakSet[Future[Any]] = WeakSet()

    def submit(self, work: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        sealed = partial(work, *args, **kwargs)
        # Pickled here, so that the scheduler, which has no settings, does not unpickle it.
        key = f"{sealed.func.__name__}-{uuid.uuid4()}"
        try:
            task = self._client.submit(_run_task, pickle.dumps(sealed), *self._run, key=key, pure=False)
        except (CommClosedError, ClosedClientError):
            raise self._fault from None
        outcome: Future[Result] = Future()
        self._outcomes.add(outcome)
        outcome.add_done_callback(partial(_cancel_with, task))
        task.add_done_callback(partial(self._pass_on, outcome))
        return outcome

    def fail(self, fault: ClusterError) -> None:
        """Make the futures of all unfinished tasks raise this error. Tasks on workers are not stopped."""
        self._fault = fault
        for outcome in list(self._outcomes):
            with suppress(InvalidStateError):  # the task has finished
                outcome.set_exception(fault)

    def _pass_on(self, outcome: Future[Any], task: DaskFuture[Any]) -> None:
        with suppress(InvalidStateError):  # the task was cancelled in the meantime
            try:
                outcome.set_result(task.result(timeout=SECONDS_TO_FETCH_A_RESULT))
            except Exception as error:  # noqa: BLE001 - raised in the thread that waits for the result
                outcome.set_exception(self._translated(error, str(task.key)))
        task.release()

    def _translated(self, error: Exception, key: str) -> Exception:
        """Return the `ClusterError` for an error of Dask; any other error unchanged."""
        lost = isinstance(error, CancelledError | CommClosedError | ClosedClientError)
        if lost or self._client.status in ("closing", "closed"):
            return self._fault
        if isinstance(error, TimeoutError):
            return ClusterError(
                f"task {key} finished, but Dask did not return its result within {SECONDS_TO_FETCH_A_RESULT:.0f} s",
                hint="see the logs of the scheduler and its workers, then rerun",
            )
        if isinstance(error, KilledWorker):
            return ClusterError(
                f"{error.allowed_failures + 1} workers in a row died while running the same task of "
                f"{key.partition('-')[0]}, most recently {error.last_worker.address}",
                hint="see that worker's log. If it had too little memory, as is most likely, restart the workers with "
                "a higher --memory-limit or lower --nthreads, then rerun",
            )
        return error


def _cancel_with(task: DaskFuture[Any], outcome: Future[Any]) -> None:
    if outcome.cancelled():
        with suppress(Exception):  # a closed client has already cancelled the task
            task.cancel()


def _run_task(sealed: bytes, digest: str, warehouse: str, run_id: str) -> Any:
    """Check this worker, which may have joined after the start of the run, then run a pickled task."""
    me = f"worker {get_worker().address}"
    if digest != code_digest():
        raise ClusterError(f"{me} has another version of the pipeline", hint=UPDATE_HINT)
    with naming_worker(me):
        check_run_is_known(warehouse, run_id)
    try:
        return pickle.loads(sealed)()  # noqa: S301 - sent by the driver, over a scheduler that could run any code
    except SourceError:
        with naming_worker(me):  # perhaps only this machine cannot read S3
            raise


@contextmanager
def monitored_workers(client: Client, tasks: TaskExecutor, address: str | None) -> Iterator[None]:
    """Make all tasks fail if there is no worker, or no answer, for `SECONDS_TO_WAIT_FOR_WORKERS` while the block runs.

    Dask itself would wait forever.
    """
    ended = threading.Event()

    def look() -> None:
        seen = time.monotonic()
        while not ended.wait(SECONDS_BETWEEN_LOOKS) and client.status != "closed":
            fault = ClusterError(f"all workers of the scheduler {address} were lost", hint=start_workers_hint(address))
            try:
                if ask_cluster(client.nthreads):
                    seen = time.monotonic()
            except ClusterError as error:
                fault = error
            if time.monotonic() - seen > SECONDS_TO_WAIT_FOR_WORKERS:
                tasks.fail(fault)
                return

    threading.Thread(target=look, name="watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
