"""Labels carried from scan to scan: they land where the anatomy is, in any grid, and votes are shared out."""

from __future__ import annotations

import numpy as np
import pytest
from place_net import MOVE, noise_like

from alice3d.errors import UserError
from alice3d.geometry import Grid, apply_affine
from alice3d.matching.propagation import Atlas, carry_labels


def ball(grid: Grid, to_anatomy: np.ndarray, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(apply_affine(to_anatomy, grid.world(index)) - centre, axis=-1) < radius


def labels_of(grid: Grid, to_anatomy: np.ndarray) -> np.ndarray:
    labels = np.zeros(grid.shape, np.uint8)
    labels[ball(grid, to_anatomy, (20, 10, -15), 18)] = 3
    labels[ball(grid, to_anatomy, (-30, 0, 20), 14)] = 7
    return labels


def dice(a, b) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture
def atlas(matcher, query_input) -> Atlas:
    return Atlas(matcher.embed(query_input), labels_of(query_input.grid, np.eye(4)), query_input.grid)


def test_labels_land_where_the_anatomy_is_in_any_grid(matcher, atlas, key_input):
    target = matcher.embed(key_input)
    to_anatomy = np.linalg.inv(MOVE)
    turned = np.array([[0, 3.0, 0, -90], [0, 0, -3.0, 80], [3.0, 0, 0, -60], [0, 0, 0, 1.0]])
    for grid in (key_input.grid, Grid((60, 66, 58), turned)):
        for one in (atlas, atlas.cropped()):
            made = carry_labels(matcher, [one], target, grid, vote=0.5)
            true = labels_of(grid, to_anatomy)
            assert made.labels.shape == grid.shape
            for value in (3, 7):
                assert dice(made.labels == value, true == value) > 0.8
                assert 0.4 < made.certainty[value] <= 1
            assert set(np.unique(made.labels)) == {0, 3, 7}
            assert made.agreement[0] > 0.5


def test_a_structure_that_one_atlas_lacks_is_voted_by_the_others(matcher, atlas, key_input):
    without = Atlas(atlas.scan, np.where(atlas.labels == 7, 0, atlas.labels), atlas.grid)
    target = matcher.embed(key_input)
    alone = carry_labels(matcher, [atlas], target, key_input.grid)
    both = carry_labels(matcher, [without, without, without, atlas], target, key_input.grid)
    np.testing.assert_array_equal(both.labels == 7, alone.labels == 7)


def test_slabs_do_not_change_the_result(matcher, atlas, key_input, monkeypatch):
    from alice3d.matching import propagation

    target = matcher.embed(key_input)
    whole = carry_labels(matcher, [atlas], target, key_input.grid)
    monkeypatch.setattr(propagation, "SLAB_VOXELS", 2000)
    np.testing.assert_array_equal(carry_labels(matcher, [atlas], target, key_input.grid).labels, whole.labels)


def test_a_structure_outside_the_field_of_view_is_left_out(matcher, atlas, key_input):
    target = matcher.embed(key_input)
    above = key_input.grid.crop(np.array([0, 0, 30]), np.array(key_input.grid.shape))
    made = carry_labels(matcher, [atlas], target, above)
    assert 3 not in made.certainty
    assert not (made.labels == 3).any()


def test_what_cannot_be_carried_is_named(matcher, atlas, key_input):
    target = matcher.embed(key_input)
    with pytest.raises(UserError, match="no labelled scan is given"):
        carry_labels(matcher, [], target, target.grid)
    with pytest.raises(UserError, match="no labelled scan shows the same anatomy"):
        carry_labels(matcher, [atlas], noise_like(target), target.grid)
    with pytest.raises(UserError, match="labels have shape"):
        Atlas(atlas.scan, atlas.labels[1:], atlas.grid)
