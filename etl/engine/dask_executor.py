"""An executor that runs work as Dask tasks, and a monitor that makes the tasks fail when all workers are lost."""

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
from etl.utils.errors import ClusterError

SECONDS_TO_FETCH_A_RESULT = 150.0
"""Longest wait for the result of a finished task. If its worker is lost, Dask tries to reach the worker for half a
minute, then reruns the task."""
SECONDS_TO_WAIT_FOR_WORKERS = 60.0
"""Longest wait for the first worker, and for a new worker or an answer of the scheduler during a run. Starting a worker
takes some seconds."""
SECONDS_BETWEEN_LOOKS = 2.0


def start_workers_hint(address: str | None) -> str:
    return f"start workers in the project's folder, with settings in their environment: python -m dask worker {address}"


class TaskExecutor(Executor):
    """An executor that runs work as Dask tasks.

    `Client.get_executor()` has two problems. It keeps results until it is garbage-collected, so when a worker is lost,
    Dask recomputes results that the run already has. And its futures never finish if they are cancelled at the moment
    of completion.
    """

    def __init__(self, client: Client, warehouse: str, run_id: str) -> None:
        self._client = client
        self._run = (code_digest(), warehouse, run_id)
        self._outcomes: WeakSet[Future[Any]] = WeakSet()

    def submit(self, work: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        sealed = partial(work, *args, **kwargs)
        # Pickled here, so that the scheduler, which has no settings, does not unpickle it.
        task = self._client.submit(
            _run_task,
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
        """Make all unfinished tasks fail with this error."""
        for outcome in list(self._outcomes):
            with suppress(InvalidStateError):  # the task has finished
                outcome.set_exception(fault)


def _cancel_with(task: DaskFuture[Any], outcome: Future[Any]) -> None:
    if outcome.cancelled():
        with suppress(Exception):  # a closed client has already cancelled the task
            task.cancel()


def _pass_on(outcome: Future[Any], task: DaskFuture[Any]) -> None:
    client = task.client
    with suppress(InvalidStateError):  # the task was cancelled in the meantime
        try:
            outcome.set_result(task.result(timeout=SECONDS_TO_FETCH_A_RESULT))
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits for the result
            if isinstance(error, CancelledError) or client.status in ("closing", "closed"):
                outcome.cancel()
            elif isinstance(error, TimeoutError):
                outcome.set_exception(
                    ClusterError(
                        f"task {task.key} finished, but Dask did not return its result within "
                        f"{SECONDS_TO_FETCH_A_RESULT:.0f} s",
                        hint="see the logs of the scheduler and its workers, then rerun",
                    )
                )
            else:
                outcome.set_exception(error)
    task.release()


def _run_task(sealed: bytes, digest: str, warehouse: str, run_id: str) -> Any:
    """Check this worker, which may have joined after the start of the run, then run a pickled task. Returns its result.

    Raises:
        ClusterError: this worker has another version of the pipeline.
        SettingsError: see `check_run_is_known`.
    """
    me = f"worker {get_worker().address}"
    if digest != code_digest():
        raise ClusterError(f"{me} has another version of the pipeline", hint=UPDATE_HINT)
    with naming_worker(me):
        check_run_is_known(warehouse, run_id)
    return pickle.loads(sealed)()  # noqa: S301 - sent by the driver, over a scheduler that could run any code


class WorkerMonitor:
    """A monitor that makes all tasks fail if there is no worker, or no answer, for `SECONDS_TO_WAIT_FOR_WORKERS`.

    Dask itself would wait forever.
    """

    def __init__(self, client: Client, tasks: TaskExecutor, address: str | None) -> None:
        self._client = client
        self._tasks = tasks
        self._address = address
        self._ended = threading.Event()
        self.fault = ClusterError(
            f"the scheduler {address} was lost",
            hint="start it and its workers again, then rerun: unfinished work was rolled back",
        )
        """The error that `translate_dask_errors` raises if a task was cancelled or the connection was lost."""

    def __enter__(self) -> WorkerMonitor:
        threading.Thread(target=self._look, name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _look(self) -> None:
        seen = time.monotonic()
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS) and self._client.status != "closed":
            fault = ClusterError(
                f"all workers of the scheduler {self._address} were lost", hint=start_workers_hint(self._address)
            )
            try:
                if ask_cluster(self._client.nthreads):
                    seen = time.monotonic()
            except ClusterError as error:
                fault = error
            if time.monotonic() - seen > SECONDS_TO_WAIT_FOR_WORKERS:
                self.fault = fault
                self._tasks.fail(fault)
                return


@contextmanager
def translate_dask_errors(watch: WorkerMonitor) -> Iterator[None]:
    """Translate errors of Dask in a `with` block.

    Raises:
        ClusterError: a task was cancelled, a connection of Dask was lost, or workers died while running a task.
    """
    try:
        yield
    except (CancelledError, CommClosedError, ClosedClientError):
        raise watch.fault from None
    except KilledWorker as error:
        what = str(error.task).partition("-")[0]
        raise ClusterError(
            f"{error.allowed_failures + 1} workers in a row died while running the same task of {what}, "
            f"most recently {error.last_worker.address}",
            hint="see that worker's log. If it had too little memory, as is most likely, restart the workers with a "
            "higher --memory-limit or lower --nthreads, then rerun",
        ) from None
