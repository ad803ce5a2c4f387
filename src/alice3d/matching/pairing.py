"""Matches many scan pairs into a pairs table: which pairs, by how many processes, going on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alice3d.data.pairs.table import read_part, write_part
from alice3d.data.store import Store
from alice3d.matching.cache import EmbeddingCache, Precision
from alice3d.matching.embedded_cases import EmbeddedCases
from alice3d.matching.matcher import Matcher


@dataclass(frozen=True)
class Pairing:
    """The work of `alice pair`, as every process gets it.

    Attributes:
        store: folder of the store.
        matcher: folder, file or shipped name.
        device: where the network runs.
        threads: of each process; 0 leaves them as they are.
        cache: folder of the embeddings.
        precision: of the embeddings on disk.
        parts: folder of the parts, one a scan pair.
        points: matched points a scan pair.
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


def draw_scan_pairs(cases: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Draw `count` (query, key) pairs of different cases, no two of the same scans, every case as often as possible.

    Rounds of a shuffled circle: in each round every case is query once and key once. Sorted by query, so that a
    query's embedding is read once.
    """
    names = sorted(cases)
    most = len(names) * (len(names) - 1) // 2
    rng = np.random.default_rng(seed)
    drawn: dict[frozenset[str], tuple[str, str]] = {}
    while len(drawn) < min(count, most) and len(drawn) < 0.5 * most:
        order = rng.permutation(len(names))
        for a, b in zip(order, np.roll(order, 1), strict=True):
            drawn.setdefault(frozenset((names[a], names[b])), (names[a], names[b]))
    chosen = list(drawn.values())[:count]
    if len(chosen) < min(count, most):  # the circles meet themselves too often: draw from what is left
        left = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :] if frozenset((a, b)) not in drawn]
        chosen += [left[n] for n in rng.permutation(len(left))[: min(count, most) - len(chosen)]]
    return sorted(chosen)


class _Process:
    """What one process holds open: the store, the matcher and the latest embeddings."""

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


def _embed(case: str) -> None:
    assert _process is not None
    _process.embed(case)


def _match(number: int, query: str, key: str) -> None:
    assert _process is not None
    _process.match(number, query, key)


@contextmanager
def _pool(pairing: Pairing, jobs: int) -> Iterator[Executor | None]:
    """Processes that hold the matcher, or None where this process does the work."""
    if jobs == 1:
        _open(pairing)
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_open, initargs=(pairing,)) as pool:
        yield pool


def _each(
    pool: Executor | None, work: Callable[..., None], calls: Sequence[tuple[Any, ...]], done: Callable[[], None]
) -> None:
    if pool is None:
        for call in calls:
            work(*call)
            done()
        return
    futures = [pool.submit(work, *call) for call in calls]
    try:
        for future in as_completed(futures):
            future.result()
            done()
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def match_pairs(
    pairing: Pairing,
    scan_pairs: Sequence[tuple[str, str]],
    *,
    jobs: int,
    embedded: Callable[[], None],
    matched: Callable[[], None],
) -> None:
    """Embed the scans and match the pairs whose part is not there yet; the parts do not depend on `jobs`.

    Args:
        pairing: the work.
        scan_pairs: (query, key) case ids; the place in this list is the number of the part.
        jobs: processes.
        embedded, matched: called after each scan and each pair, also for those that were there.
    """
    missing = [n for n in range(len(scan_pairs)) if read_part(pairing.part(n)) is None]
    needed = sorted({name for n in missing for name in scan_pairs[n]})
    for _ in range(len(scan_pairs) - len(missing)):
        matched()
    if not missing:
        return
    with _pool(pairing, jobs) as pool:
        _each(pool, _embed, [(name,) for name in needed], embedded)
        _each(pool, _match, [(n, *scan_pairs[n]) for n in missing], matched)
