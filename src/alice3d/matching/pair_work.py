"""The work of `alice pair` in several processes: scans embedded, scan pairs matched into parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alice3d import console
from alice3d.data.pairs.table import read_part, write_part
from alice3d.data.store import Store
from alice3d.errors import WorkFailed
from alice3d.executors import DIED, Workers
from alice3d.io.volume import ScanError
from alice3d.matching.disk_cache import EmbeddingCache, Precision
from alice3d.matching.matcher import Matcher
from alice3d.matching.memory_cache import EmbeddedCases
from alice3d.memory import NO_MEMORY, within_memory


@dataclass(frozen=True)
class Pairing:
    """The work of `alice pair`, sent to every process.

    Attributes:
        store: folder of the store.
        matcher: folder, file or shipped name.
        device: device of the network.
        threads: of each process; 0 leaves them as they are.
        cache: folder of the embeddings.
        precision: of the embeddings on disk.
        parts: folder of the parts, one per scan pair.
        points: matched points per scan pair.
    """

    store: Path
    matcher: str
    device: str
    threads: int
    cache: Path
    precision: Precision
    parts: Path
    points: int

    def part(self, number: int) -> Path:
        """File of scan pair `number`."""
        return self.parts / f"{number:06d}.npz"


class _Process:
    """State of one process: the store, the matcher and the latest embeddings."""

    def __init__(self, pairing: Pairing) -> None:
        if pairing.threads:
            torch.set_num_threads(pairing.threads)
        self.pairing = pairing
        matcher = Matcher.load(
            pairing.matcher, device=pairing.device, cache=EmbeddingCache(pairing.cache, pairing.precision)
        )
        self.scans = EmbeddedCases(matcher, Store.open(pairing.store))

    def embed(self, case: str) -> None:
        self.scans[case]

    def match(self, number: int, query: str, key: str) -> None:
        fit = self.scans.matcher.fit(self.scans[query], self.scans[key], points=self.pairing.points)
        write_part(self.pairing.part(number), fit.rows)


_process: _Process | None = None


def _open(pairing: Pairing) -> None:
    global _process
    _process = _Process(pairing)


def _embed(case: str) -> str:
    """The case where memory does not suffice for it, else ""."""
    assert _process is not None
    try:
        with within_memory(partial(ScanError, case)):
            _process.embed(case)
    except ScanError as error:
        return error.name
    return ""


def _match(task: tuple[int, str, str]) -> None:
    assert _process is not None
    with within_memory(partial(ScanError, f"{task[1]} and {task[2]}")):
        _process.match(*task)


def _died(task: str | tuple[int, str, str]) -> Any:
    """Stop, since the table would be incomplete; finished parts are kept.

    Raises:
        WorkFailed: always.
    """
    what = task if isinstance(task, str) else f"{task[1]} and {task[2]}"
    raise WorkFailed(f"{what}: {DIED}; the same call resumes from here; use fewer --jobs if memory is short")


def match_pairs(
    pairing: Pairing,
    scan_pairs: Sequence[tuple[str, str]],
    *,
    jobs: int,
    embedded: Callable[[], None],
    matched: Callable[[], None],
) -> set[str]:
    """Embed the scans and match the pairs whose part is missing; the parts do not depend on `jobs`.

    Args:
        pairing: the work.
        scan_pairs: (query, key) case ids; the index in this list is the number of the part.
        jobs: processes.
        embedded, matched: called after each scan and each pair, also for finished ones.

    Returns:
        the scans for which memory does not suffice: their pairs are left out.

    Raises:
        WorkFailed: a process died twice at the same scan or pair.
    """
    missing = [n for n in range(len(scan_pairs)) if read_part(pairing.part(n)) is None]
    needed = sorted({name for n in missing for name in scan_pairs[n]})
    for _ in range(len(scan_pairs) - len(missing)):
        matched()
    refused: set[str] = set()
    if not missing:
        return refused
    with Workers(jobs, opening=_open, arguments=(pairing,)) as workers:
        for name in workers.run(_embed, needed, lost=_died):
            embedded()
            if name:
                console.warn(f"{name} is refused: {NO_MEMORY}")
                refused.add(name)
        left = [(n, *scan_pairs[n]) for n in missing if not refused.intersection(scan_pairs[n])]
        for _ in workers.run(_match, left, lost=_died):
            matched()
    return refused
