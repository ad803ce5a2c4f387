"""A worker process that dies costs its own scan alone, and never ends as an internal error."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alice3d.data.store import Store
from alice3d.errors import WorkFailed
from alice3d.matching import Matcher
from alice3d.matching.batch import OpenMatcher, over_scans
from alice3d.matching.pair_work import Pairing, match_pairs


def die_in_a_worker() -> None:
    if multiprocessing.parent_process() is not None:
        os._exit(1)


class DiesAt:
    """Work on a scan that kills its process at one of them."""

    def __init__(self, bad: str) -> None:
        self.bad = bad

    def on(self, matcher: Matcher, id: str) -> dict[str, Any]:
        if id == self.bad:
            die_in_a_worker()
        return {"spacing": list(matcher.spacing_mm)}


@dataclass(frozen=True)
class DyingPairing(Pairing):
    """A pairing that kills the process which is about to write part 1."""

    def part(self, number: int) -> Path:
        if number == 1:
            die_in_a_worker()
        return super().part(number)


@pytest.mark.slow
def test_landmarks_and_propagation_lose_one_scan(tiny_matcher: Path) -> None:
    matcher = Matcher.load(str(tiny_matcher), device="cpu")
    opened = OpenMatcher(str(tiny_matcher), "direct", "cpu", 1)
    found = dict(over_scans(DiesAt("b"), ["a", "b", "c", "d", "e"], matcher, opened, jobs=2))
    assert found.keys() == {"a", "b", "c", "d", "e"}
    assert "the worker process died" in found.pop("b")["reason"]
    assert all(row == {"spacing": [8.0, 8.0, 8.0]} for row in found.values())


@pytest.mark.slow
def test_pairing_stops_in_one_line_and_keeps_what_is_done(tiny_matcher: Path, tiny_store: Path, tmp_path: Path) -> None:
    names = [case.id for case in Store.open(tiny_store).cases()][:4]
    pairs = list(itertools.pairwise(names))
    work = DyingPairing(
        store=tiny_store,
        matcher=str(tiny_matcher),
        device="cpu",
        threads=1,
        cache=tmp_path / "cache",
        precision="fp16",
        parts=tmp_path / "parts",
        points=60,
    )
    (tmp_path / "parts").mkdir()
    with pytest.raises(WorkFailed, match=f"^{names[1]} and {names[2]}: the worker process died twice on it"):
        match_pairs(work, pairs, jobs=2, embedded=lambda: None, matched=lambda: None)
    assert (tmp_path / "parts" / "000000.npz").exists()
