"""Several views of one scan: where they lie, that points correspond, their masks, and that they are drawn by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.base import Masks
from alice3d.data.sampling.crops import ViewSettings, overlap_share
from alice3d.data.sampling.several_views import SeveralViews, ViewsWants
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.geometry import Grid

CROP = 16
VIEWS = ViewSettings(crop=CROP, spacing_mm=(8.0, 8.0, 8.0), points=24, candidates=16)


def sampler(store: Path, wants: ViewsWants | None = None, **changes: Any) -> SeveralViews:
    """Views of the generated patients."""
    opened = Store.open(store)
    usual: dict[str, Any] = {"settings": VIEWS, "masks": Masks(0.5), "patch": 4, "seed": 1}
    inputs = {"store": opened, "cases": opened.cases(), "rule": IntensityRule(), **usual, **changes}
    return SeveralViews(wants or ViewsWants(smalls=2, masked_share=0.5, clean=True), **inputs)


def grid_of(sample: dict[str, Any], name: str) -> Grid:
    x, y, z = sample[name].shape[-3:]
    return Grid((x, y, z), np.asarray(sample[f"affine_{name}"], np.float64))


def test_the_same_number_is_the_same_sample(tiny_store: Path) -> None:
    one, other = sampler(tiny_store)[5], sampler(tiny_store)[5]
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])
    assert not np.array_equal(one["whole_0"], sampler(tiny_store)[6]["whole_0"])


def test_further_crops_overlap_and_small_ones_lie_inside(tiny_store: Path) -> None:
    samples = sampler(tiny_store, ViewsWants(smalls=2, overlap=0.3))
    for number in range(12):
        sample = samples[number]
        first, second = grid_of(sample, "whole_0"), grid_of(sample, "whole_1")
        assert overlap_share(first, second) >= 0.3
        for name in ("small_0", "small_1"):
            assert sample[name].shape == (2, CROP // 2, CROP // 2, CROP // 2)
            assert bool(first.contains(grid_of(sample, name).centre_mm[None])[0])
        assert sample["case_whole_0"] == sample["case_small_1"]


def test_points_of_the_first_two_crops_are_the_same_places(tiny_store: Path) -> None:
    sample = sampler(tiny_store, ViewsWants(overlap=0.4))[3]
    keep = sample["valid"]
    assert keep.sum() > 4
    first, second = grid_of(sample, "whole_0"), grid_of(sample, "whole_1")
    apart = first.world(sample["points_q"][keep]) - second.world(sample["points_k"][keep])
    assert np.abs(apart).max() < 0.01


def test_masks_have_the_drawn_share_or_hide_nothing(tiny_store: Path) -> None:
    samples = sampler(tiny_store, ViewsWants(masked_share=0.5, mask_ratios=(0.2, 0.7)))
    hidden = np.array([[1 - samples[i][f"visible_whole_{n}"].mean() for n in (0, 1)] for i in range(40)]).ravel()
    masked = hidden[hidden > 0]
    assert 0.3 < len(masked) / len(hidden) < 0.7
    assert masked.min() >= 0.19
    assert masked.max() <= 0.71
    every = sampler(tiny_store, ViewsWants(masked_share=1.0))
    assert {float(1 - every[i]["visible_whole_0"].mean()) for i in range(5)} == {0.5}


def test_half_a_crop_must_fit_the_backbone(tiny_store: Path) -> None:
    with pytest.raises(UserError, match="multiple of 32"):
        sampler(tiny_store, ViewsWants(smalls=1), patch=16)
