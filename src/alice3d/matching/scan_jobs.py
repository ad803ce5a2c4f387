"""Does the same work on many scans, one after another or by several processes; what is found does not depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

import torch

from alice3d.matching.matcher import Matcher, Mode

Found = dict[str, Any]
WAITING = 4
"""Scans handed out a process at once: memory does not grow with their number."""


class ScanWork(Protocol):
    """What is done with a scan; it is pickled once for each process."""

    def on(self, matcher: Matcher, id: str) -> Found:
        """The row of a scan; `reason` where it is refused."""
        ...


@dataclass(frozen=True)
class OpenMatcher:
    """How every process opens the matcher.

    Attributes:
        name: folder, file or shipped name.
        mode: direct or robust.
        device: where the network runs.
        threads: of each process; 0 leaves them as they are.
    """

    name: str
    mode: Mode
    device: str
    threads: int

    def __call__(self) -> Matcher:
        if self.threads:
            torch.set_num_threads(self.threads)
        matcher = Matcher.load(self.name, device=self.device)
        matcher.mode = self.mode
        return matcher


_work: ScanWork | None = None
_matcher: Matcher | None = None


def _open(work: ScanWork, opened: OpenMatcher) -> None:
    global _work, _matcher
    _work, _matcher = work, opened()


def _on(id: str) -> Found:
    assert _work is not None
    assert _matcher is not None
    return _work.on(_matcher, id)


def over_scans(
    work: ScanWork, ids: Sequence[str], matcher: Matcher, opened: OpenMatcher, *, jobs: int
) -> Iterator[tuple[str, Found]]:
    """Each scan's id and row, as they are done.

    Args:
        work: on a scan.
        ids: of the scans.
        matcher: of this process, which does the work itself where `jobs` is 1.
        opened: the same matcher for the others.
        jobs: processes.
    """
    jobs = min(jobs, len(ids))
    if jobs <= 1:
        for id in ids:
            yield id, work.on(matcher, id)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_open, initargs=(work, opened)) as pool:
        left, running = iter(ids), dict[Future[Found], str]()
        try:
            while True:
                for id in left:
                    running[pool.submit(_on, id)] = id
                    if len(running) >= WAITING * jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()
