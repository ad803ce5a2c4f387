"""Matches many scan pairs into a pairs table: which pairs, by how many processes, going on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alice3d.data.pairs.table import read_part, write_part
from alice3d.data.store import Store
from alice3d.errors import WorkFailed
from alice3d.executors import DIED, Workers
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


def _match(task: tuple[int, str, str]) -> None:
    assert _process is not None
    _process.match(*task)


def _died(task: str | tuple[int, str, str]) -> None:
    """The table would lack it: stop; what is done is kept.

    Raises:
        WorkFailed: always.
    """
    what = task if isinstance(task, str) else f"{task[1]} and {task[2]}"
    raise WorkFailed(f"{what}: {DIED}; the same call goes on from here, with fewer --jobs where memory is short")


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

    Raises:
        WorkFailed: a process died twice at the same scan or pair.
    """
    missing = [n for n in range(len(scan_pairs)) if read_part(pairing.part(n)) is None]
    needed = sorted({name for n in missing for name in scan_pairs[n]})
    for _ in range(len(scan_pairs) - len(missing)):
        matched()
    if not missing:
        return
    with Workers(jobs, opening=_open, arguments=(pairing,)) as workers:
        for _ in workers.run(_embed, needed, lost=_died):
            embedded()
        for _ in workers.run(_match, [(n, *scan_pairs[n]) for n in missing], lost=_died):
            matched()
