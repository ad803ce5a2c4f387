"""Which scan pairs are matched."""

from __future__ import annotations

from collections import Counter

import pytest

from alice3d.matching.pairing import draw_scan_pairs

NAMES = [f"s{n}" for n in range(10)]


@pytest.mark.parametrize("count", [1, 7, 10, 20, 44, 45, 1000])
def test_pairs_are_of_two_scans_each_drawn_once(count):
    pairs = draw_scan_pairs(NAMES, count, seed=0)
    assert len(pairs) == min(count, 45)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(a != b for a, b in pairs)
    assert pairs == sorted(pairs)


def test_scans_take_part_equally_often():
    counts = Counter(name for pair in draw_scan_pairs(NAMES, 10, seed=1) for name in pair)
    assert set(counts.values()) == {2}


def test_same_seed_same_pairs_whatever_the_order_of_the_cases():
    assert draw_scan_pairs(NAMES, 9, 3) == draw_scan_pairs(NAMES[::-1], 9, 3)
    assert draw_scan_pairs(NAMES, 9, 3) != draw_scan_pairs(NAMES, 9, 4)


def test_two_scans_give_their_only_pair():
    assert len(draw_scan_pairs(["a", "b"], 4, 0)) == 1
