"""The embeddings of a store's cases, each computed once: the latest in memory, the others on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from alice3d.data.store import Store
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import FIT_POINTS, Matcher
from alice3d.matching.results import PairFit

KEPT_EMBEDDINGS = 8
"""Embeddings in memory at once: 0.1 GB each for a head-and-neck scan at 4 mm, most of it the vectors to search."""


class EmbeddedCases:
    """Maps a case id to its embedding.

    Args:
        matcher: its `cache`, if it has one, keeps embeddings on disk that are no longer in memory.
        store: of the cases.
        kept: embeddings in memory at once.
    """

    def __init__(self, matcher: Matcher, store: Store, kept: int = KEPT_EMBEDDINGS) -> None:
        self.matcher, self.store, self.kept = matcher, store, kept
        self._scans: OrderedDict[str, EmbeddedScan] = OrderedDict()

    def __getitem__(self, case: str) -> EmbeddedScan:
        scan = self._scans.get(case)
        if scan is None:
            scan = self.matcher.embed_case(self.store, self.store.case(case))
            self._scans[case] = scan
            if len(self._scans) > self.kept:
                self._scans.popitem(last=False)
        self._scans.move_to_end(case)
        return scan

    def in_blocks(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Pairs of cases in an order with few cache misses: block by block.

        Args:
            pairs: (query, key) ids.
        """
        given = list(pairs)
        side = max(self.kept // 2, 1)
        place = {case: n // side for n, case in enumerate(sorted({case for pair in given for case in pair}))}
        return sorted(given, key=lambda pair: (place[pair[0]], place[pair[1]], pair))


KEPT_FITS = 16
"""Fits in memory, about 0.5 MB each."""


class RememberingMatcher(Matcher):
    """A `Matcher` that caches the `fit` of two scans; the results are the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fits: OrderedDict[tuple[int, int, int], tuple[EmbeddedScan, EmbeddedScan, PairFit]] = OrderedDict()

    def fit(self, query: EmbeddedScan, key: EmbeddedScan, *, points: int = FIT_POINTS) -> PairFit:
        """As `Matcher.fit`."""
        name = (id(query), id(key), points)
        known = self._fits.get(name)
        if known is None:
            # The scans are kept with their fit, so that no other scan can get their id().
            known = self._fits[name] = (query, key, super().fit(query, key, points=points))
            if len(self._fits) > KEPT_FITS:
                self._fits.popitem(last=False)
        self._fits.move_to_end(name)
        return known[2]
