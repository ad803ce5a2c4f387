"""Base crops: they tile a region, and a target's overlap with each is the count of their common voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.base_crops import BaseCrops, BaseCropWants, overlaps
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.store import Store

SIDE = 6


def counted(start: tuple[int, int, int], bases: tuple[int, int, int]) -> list[float]:
    """Overlap by counting voxels."""
    owner = np.zeros([n * SIDE for n in bases], int)
    number = 0
    for i in range(bases[0]):
        for j in range(bases[1]):
            for k in range(bases[2]):
                owner[i * SIDE : (i + 1) * SIDE, j * SIDE : (j + 1) * SIDE, k * SIDE : (k + 1) * SIDE] = number
                number += 1
    box = owner[tuple(slice(first, first + SIDE) for first in start)]
    return [float((box == n).mean()) for n in range(number)]


@pytest.mark.parametrize("start", [(0, 0, 0), (6, 6, 0), (3, 6, 0), (3, 3, 3), (1, 11, 5), (12, 12, 6)])
def test_overlap_is_the_count_of_common_voxels(start: tuple[int, int, int]) -> None:
    found = overlaps(np.array(start), (3, 3, 2), SIDE)
    np.testing.assert_allclose(found, counted(start, (3, 3, 2)), atol=1e-6)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)


def test_limits_of_the_overlap() -> None:
    assert sorted(overlaps(np.array([6, 0, 0]), (3, 3, 1), SIDE).tolist())[-2:] == [0, 1]
    assert sorted(overlaps(np.array([3, 9, 0]), (3, 3, 1), SIDE).tolist())[-5:] == [0, 0.25, 0.25, 0.25, 0.25]
    assert sorted(overlaps(np.array([6, 3, 0]), (3, 3, 1), SIDE).tolist())[-3:] == [0, 0.5, 0.5]


def test_bases_tile_a_region_of_the_body_and_targets_lie_where_their_overlap_says(tiny_store: Path) -> None:
    store = Store.open(tiny_store)
    views = ViewSettings(crop=8, spacing_mm=(8.0, 8.0, 8.0))
    inputs = {"store": store, "cases": store.cases(), "rule": IntensityRule(), "settings": views, "seed": 2}
    samples = BaseCrops(BaseCropWants((2, 3, 1), 2), **inputs)
    for number in range(4):
        sample = samples[number]
        again = BaseCrops(BaseCropWants((2, 3, 1), 2), **inputs)[number]
        for key, value in sample.items():
            np.testing.assert_array_equal(value, again[key])
        affines = np.stack([sample[f"affine_base_{j}"] for j in range(6)]).astype(np.float64)
        first = affines[0]
        for j, affine in enumerate(affines):
            step = np.array([j // 3, j % 3, 0]) * 8
            np.testing.assert_allclose(affine[:3, 3], first[:3, :3] @ step + first[:3, 3], atol=1e-3)
        for t in range(2):
            moved = np.linalg.solve(first[:3, :3], sample[f"affine_target_{t}"][:3, 3] - first[:3, 3])
            start = np.rint(moved).astype(int)
            np.testing.assert_allclose(moved, start, atol=1e-3)
            np.testing.assert_allclose(sample["overlap"][t], overlaps(start, (2, 3, 1), 8), atol=1e-6)
