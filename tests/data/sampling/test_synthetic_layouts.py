"""Painted layouts: two appearances of the same labels, no scan read, the same bits for the same number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.synthetic_layouts import LayoutWants, SyntheticLayouts, draw_layout, paint
from alice3d.data.store import Store

VIEWS = ViewSettings(crop=24, spacing_mm=(8.0, 8.0, 8.0), points=400)


def sampler(store: Path, wants: LayoutWants | None = None) -> SyntheticLayouts:
    opened = Store.open(store)
    return SyntheticLayouts(
        wants or LayoutWants(), store=opened, cases=opened.cases(), rule=IntensityRule(), settings=VIEWS, seed=4
    )


def test_no_scan_is_read_and_a_number_is_a_sample(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a scan was read")

    monkeypatch.setattr(Store, "image", refuse)
    one, other = sampler(tiny_store)[7], sampler(tiny_store)[7]
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])
    assert one["first"].shape == (2, 24, 24, 24)
    assert not np.array_equal(one["labels"], sampler(tiny_store)[8]["labels"])
    assert SyntheticLayouts.reads_scans is False


def test_both_views_show_one_layout_under_two_appearances() -> None:
    rng = np.random.default_rng(0)
    labels = draw_layout(32, (20, 30), rng)
    assert len(np.unique(labels)) > 8
    one, other = (paint(labels, 1, rng)[0] for _ in range(2))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.9
    inside, overall = [], one.std()
    for value in np.unique(labels):
        if (labels == value).sum() > 200:
            inside.append(one[labels == value].std())
    assert np.mean(inside) < 0.7 * overall  # a label has an intensity of its own


def test_places_have_equal_shares_of_the_labels_or_of_the_voxels(tiny_store: Path) -> None:
    equal = sampler(tiny_store)[3]["labels"]
    uniform = sampler(tiny_store, LayoutWants(uniform=True))[3]["labels"]
    number = len(np.unique(equal))
    assert np.bincount(equal).max() < 3 * 400 / number
    assert np.bincount(uniform).max() > np.bincount(equal).max()
