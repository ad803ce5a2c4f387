"""Runs the same work on many tasks: in this process, by worker processes, or on a cluster; one scheduler for all.

Memory is bounded by the tasks in flight, a dead worker affects only its own task, and workers end with their parent.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, Self, TypeVar

from alice3d.errors import UserError, WorkFailed

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD = 2
"""Tasks queued per worker, so that none is idle."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that libraries read when they are loaded: one thread per processor in every worker would oversubscribe."""
DIED = "the worker process died twice on it: out of memory, or a crash in a library"


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside run their matrix products on one thread each, unless the user's environment sets it."""
    set_here = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(set_here, "1"))
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)


def _start(opening: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    """In a worker: watch the parent process and end with it, then open what every task needs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
    if opening is not None:
        opening(*arguments)


class Workers:
    """Processes that stay for several batches; a context manager.

    Args:
        jobs: processes, which share no state with this one (spawn); 1 without an executor works in this process.
        executor: instead of local processes, such as a cluster's; not shut down here.
        opening: a function of a module, called once in each process before its first task, with `arguments`; what it
            opens it keeps in its module.
        arguments: pickled once for each process.

    Example:
        >>> with Workers(2) as workers:  # doctest: +SKIP
        ...     results = list(workers.run(abs, [-1, 2], lost=lambda task: 0))
    """

    def __init__(
        self,
        jobs: int,
        *,
        executor: Executor | None = None,
        opening: Callable[..., object] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> None:
        self.jobs, self.executor, self.opening, self.arguments = jobs, executor, opening, arguments
        self._pool: Executor | None = executor
        self._opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shut(cancel=True)

    def _made(self, jobs: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            jobs, mp_context=context, initializer=_start, initargs=(self.opening, self.arguments)
        )

    def _shut(self, *, cancel: bool, wait: bool = True) -> None:
        if self.executor is None and self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel)
            self._pool = None

    def run(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], *, lost: Callable[[Task], Result]
    ) -> Iterator[Result]:
        """Yield results as they come, in no order.

        Args:
            work: a function of a module; raises only where all tasks must stop.
            tasks: consumed as workers get free; None ends them.
            lost: result of a task at which its worker died twice (out of memory, a crash in a library); may raise.
        """
        if self.jobs == 1 and self.executor is None:
            if self.opening is not None and not self._opened:
                self.opening(*self.arguments)
                self._opened = True
            yield from map(work, tasks)
            return
        with single_threaded():
            yield from self._through(work, tasks, lost)

    def _through(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], lost: Callable[[Task], Result]
    ) -> Iterator[Result]:
        """`run` through an executor, or through processes that are started and restarted here."""
        waiting = iter(tasks)
        flying: dict[Future[Result], Task] = {}
        try:
            while True:
                while len(flying) < self.jobs * AHEAD and (task := next(waiting, None)) is not None:
                    flying[self._submit(work, task)] = task
                if not flying:
                    return
                suspects = []
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    task = flying.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        suspects.append(task)
                    except WorkFailed:
                        raise
                    except Exception:  # a cluster gave up a task whose workers died
                        if self.executor is None:
                            raise
                        yield lost(task)
                if suspects:  # a worker died, all in flight is lost: run one by one to find the task
                    suspects += flying.values()
                    flying = {}
                    self._shut(cancel=True, wait=False)
                    for task in suspects:
                        yield self._alone(work, task, lost)
        finally:
            for future in flying:
                future.cancel()

    def _submit(self, work: Callable[[Task], Result], task: Task) -> Future[Result]:
        if self._pool is None:
            self._pool = self._made(self.jobs)
        try:
            return self._pool.submit(work, task)
        except BrokenProcessPool as error:
            future: Future[Result] = Future()
            future.set_exception(error)
            return future

    def _alone(self, work: Callable[[Task], Result], task: Task, lost: Callable[[Task], Result]) -> Result:
        """Run a task in a process of its own."""
        with self._made(1) as pool:
            try:
                return pool.submit(work, task).result()
            except BrokenProcessPool:
                return lost(task)


def run_batch(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int,
    lost: Callable[[Task], Result],
    executor: Executor | None = None,
) -> Iterator[Result]:
    """One batch by `Workers`: results as they come, in no order."""
    with Workers(jobs, executor=executor) as workers:
        yield from workers.run(work, tasks, lost=lost)


CONNECT_SECONDS = 20


def _check_address(address: str) -> None:
    """Refuse an address that cannot be a scheduler: a client that fails to connect hangs for long when it is closed.

    Raises:
        UserError: no transport of dask's, no host and port, or TLS without certificates.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend
    from distributed.security import Security

    security: Any = Security
    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        host, _ = parse_host_port(location)
    except (ValueError, TypeError):
        host = ""
    if not host:
        raise UserError(f"dask: {address!r} is not an address of a scheduler; write tcp://HOST:PORT, usually port 8786")
    if scheme in ("tls", "wss") and security().get_connection_args("client").get("ssl_context") is None:
        raise UserError(f"dask: {address} needs certificates; set them in dask's configuration (distributed.comm.tls)")


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor | None, int]]:
    """The executor of a Dask cluster and its number of threads; (None, 0) for an empty address.

    Args:
        address: of the scheduler, such as tcp://node1:8786. Its workers must have alice3d installed and see the same
            files under the same paths.

    Raises:
        UserError: dask is not installed, invalid address, no answer, or the cluster has no workers.
    """
    if not address:
        yield None, 0
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError("dask: is not installed; pip install 'alice3d[dask]'") from None
    _check_address(address)
    try:
        client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"dask: no scheduler answers at {address} ({type(error).__name__})") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UserError(f"dask: the cluster at {address} has no workers yet")
        with client.get_executor(pure=False) as executor:
            yield executor, threads
