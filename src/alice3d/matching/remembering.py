"""A matcher that keeps the maps it fitted: for a few scans that are asked about again and again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import FIT_POINTS, Matcher, PairFit

KEPT = 16
"""Fits in memory, about 0.5 MB each."""


class RememberingMatcher(Matcher):
    """A `Matcher` whose `fit` of two scans is made once; the answers are the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fits: OrderedDict[tuple[int, int, int], tuple[EmbeddedScan, EmbeddedScan, PairFit]] = OrderedDict()

    def fit(self, query: EmbeddedScan, key: EmbeddedScan, *, points: int = FIT_POINTS) -> PairFit:
        """As `Matcher.fit`."""
        name = (id(query), id(key), points)
        known = self._fits.get(name)
        if known is None:
            # The scans are kept beside their fit, so that no other scan takes their id.
            known = self._fits[name] = (query, key, super().fit(query, key, points=points))
            if len(self._fits) > KEPT:
                self._fits.popitem(last=False)
        self._fits.move_to_end(name)
        return known[2]
