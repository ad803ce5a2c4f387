"""The embeddings of a store's cases, made once each: the latest in memory, the others on disk."""

from __future__ import annotations

from collections import OrderedDict

from alice3d.data.store import Store
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher


class EmbeddedCases:
    """Give a case id, get its embedding.

    Args:
        matcher: its `cache`, if it has one, keeps on disk what leaves the memory.
        store: of the cases.
        kept: embeddings in memory at once.
    """

    def __init__(self, matcher: Matcher, store: Store, kept: int = 32) -> None:
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
