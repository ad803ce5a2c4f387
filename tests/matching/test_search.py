"""Matching no point gives no match."""

from __future__ import annotations

from pathlib import Path

import torch

from alice3d.data.store import Store
from alice3d.matching.matcher import Matcher
from alice3d.matching.search import search_all


def test_no_point_no_match(tiny_store: Path, tiny_matcher: Path) -> None:
    store = Store.open(tiny_store)
    scan = Matcher.load(str(tiny_matcher)).embed_case(store, store.cases()[0])
    nothing = scan.at(torch.zeros(0, 3).numpy())
    assert search_all(nothing, scan).shape == (0, 3)
