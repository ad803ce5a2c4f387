"""Embeddings and maps kept in memory: the same answers, each scan read seldom."""

from __future__ import annotations

import numpy as np
from place_net import CARD, PlaceNet

from alice3d.matching import Matcher
from alice3d.matching.memory_cache import EmbeddedCases, RememberingMatcher


def test_a_remembering_matcher_answers_alike_and_fits_once(query_input, key_input, points, monkeypatch):
    plain, kept = Matcher(PlaceNet(), CARD, "place"), RememberingMatcher(PlaceNet(), CARD, "place")
    query, key = plain.embed(query_input), plain.embed(key_input)
    expected = plain.match(query, key, points, mode="robust")
    kept.match(query, key, points, mode="robust")
    monkeypatch.setattr(Matcher, "_check", None)
    assert kept.fit(query, key) is kept.fit(query, key)
    monkeypatch.undo()
    np.testing.assert_array_equal(kept.match(query, key, points, mode="robust").point_mm, expected.point_mm)


def test_blocks_hold_every_pair_once_and_read_each_scan_seldom():
    cases = [f"s{n:02}" for n in range(20)]
    pairs = [(a, b) for a in cases for b in cases if a != b]
    scans = EmbeddedCases(None, None, kept=8)
    ordered = scans.in_blocks(pairs)
    assert sorted(ordered) == pairs
    held, reads = [], 0
    for pair in ordered:
        for name in pair:
            reads += name not in held
            held = [*(one for one in held if one != name), name][-8:]
    assert reads < len(pairs) / 2
