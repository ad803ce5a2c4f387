"""Runs the same work on many tasks through any executor, with memory bounded by the jobs in flight."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import TypeVar

from alice3d.errors import WorkFailed

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD = 2
"""Tasks that wait a worker, so that none idles."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries read when they are loaded: as many threads as processors in every worker would fight each other."""


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes that start meanwhile run their matrix products on one thread each, unless the user says otherwise."""
    set_here = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(set_here, "1"))
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)


def process_pool(jobs: int) -> ProcessPoolExecutor:
    """Worker processes that start afresh: nothing of this process is copied."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker: stop when the process that gave the work was killed, instead of waiting for more forever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_batch(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int,
    lost: Callable[[Task], Result],
    executor: Executor | None = None,
) -> Iterator[Result]:
    """Yield results as they come, in no order.

    Args:
        work: a function of a module; raises only where going on makes no sense.
        tasks: taken from as workers get free.
        jobs: workers; 1 without an executor works in this process.
        lost: result of a task at which its worker died twice (out of memory, a crash in a library).
        executor: any other than processes of this machine, such as a cluster's; not shut down here.
    """
    if jobs == 1 and executor is None:
        yield from map(work, tasks)
    elif executor is not None:
        yield from _through(executor, work, tasks, jobs, lost)
    else:
        with single_threaded():
            yield from _through(None, work, tasks, jobs, lost)


def _through(
    executor: Executor | None,
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    jobs: int,
    lost: Callable[[Task], Result],
) -> Iterator[Result]:
    """`run_batch` through an executor, or through processes that are made and mended here."""
    waiting = iter(tasks)
    pool: Executor = executor or process_pool(jobs)
    flying: dict[Future[Result], Task] = {}
    try:
        while True:
            while len(flying) < jobs * AHEAD and (task := next(waiting, None)) is not None:
                try:
                    flying[pool.submit(work, task)] = task
                except BrokenProcessPool:
                    flying[_broken()] = task
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
                except Exception:  # a cluster gave a task up after its workers died at it
                    if executor is None:
                        raise
                    yield lost(task)
            if suspects:  # a worker died: everything in flight is lost; one by one shows which task did it
                suspects += flying.values()
                flying = {}
                if executor is None:
                    pool.shutdown(wait=False, cancel_futures=True)
                for task in suspects:
                    yield _alone(work, task, lost)
                if executor is None:
                    pool = process_pool(jobs)
    finally:
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)


def _broken() -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _alone(work: Callable[[Task], Result], task: Task, lost: Callable[[Task], Result]) -> Result:
    """Run a task in a process of its own."""
    with process_pool(1) as pool:
        try:
            return pool.submit(work, task).result()
        except BrokenProcessPool:
            return lost(task)
