"""The map between two patients against known affine and smooth maps, with gross errors among the matches."""

from __future__ import annotations

import numpy as np
import pytest

from alice3d.data.pairs.correspondence import fit_correspondence, plausible, robust_affine
from alice3d.geometry import apply_affine

TRUE = np.array(
    [[1.08, 0.05, -0.02, 12.0], [-0.04, 0.93, 0.06, -30.0], [0.03, -0.05, 1.05, 55.0], [0.0, 0.0, 0.0, 1.0]]
)


def bend(points: np.ndarray) -> np.ndarray:
    """A smooth displacement of up to 8 mm over tens of millimetres."""
    x, y, z = points.T
    return np.stack([8 * np.sin(z / 60), 6 * np.cos(x / 70), 5 * np.sin(y / 50 + z / 90)], axis=-1)


def truth(points: np.ndarray) -> np.ndarray:
    return apply_affine(TRUE, points) + bend(points)


@pytest.fixture
def points() -> np.ndarray:
    axes = [np.arange(-120, 121, 20.0), np.arange(-80, 81, 20.0), np.arange(-100, 101, 20.0)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def spoil(key: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the matches lies anywhere in the body; the rest scatters by 2 mm."""
    key = key + rng.normal(0, 2, key.shape)
    wrong = rng.random(len(key)) < share
    key[wrong] = rng.uniform(key.min(axis=0), key.max(axis=0), (int(wrong.sum()), 3))
    return key


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_affine_is_found_among_gross_errors(points, share):
    key = spoil(apply_affine(TRUE, points), share, np.random.default_rng(1))
    found = robust_affine(points, key)
    assert np.linalg.norm(apply_affine(found, points) - apply_affine(TRUE, points), axis=1).max() < 2


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_affine_and_smooth_field_are_recovered_with_gross_errors(points, share):
    rng = np.random.default_rng(2)
    found, distance = fit_correspondence(points, spoil(truth(points), share, rng))
    inner = rng.uniform([-100, -60, -80], [100, 60, 80], (500, 3))
    error = np.linalg.norm(found.map(inner) - truth(inner), axis=1)
    assert np.median(error) < 1.5
    assert error.max() < 6
    assert found.certainty(inner).min() > 0.5
    assert len(distance) == len(points)


def test_distance_tells_wrong_rows_from_right_ones(points):
    key = truth(points)
    wrong = np.random.default_rng(3).random(len(points)) < 0.3
    key[wrong] += np.array([60.0, -40.0, 50.0])
    _, distance = fit_correspondence(points, key)
    assert distance[wrong].min() > 3 * distance[~wrong].max()


def test_local_affine_is_the_slope_of_the_map(points):
    found, _ = fit_correspondence(points, truth(points))
    at = np.random.default_rng(4).uniform(-50, 50, (20, 3))
    slope = found.local_affine(at)
    step = 0.01
    for axis in range(3):
        true = (truth(at + step * np.eye(3)[axis]) - truth(at)) / step
        np.testing.assert_allclose(slope[:, :, axis], true, atol=0.08)


def test_certainty_falls_where_no_point_lies_and_where_points_disagree(points):
    rng = np.random.default_rng(5)
    near, far = np.zeros((1, 3)), np.full((1, 3), 400.0)
    found, _ = fit_correspondence(points, truth(points))
    assert found.certainty(near)[0] > 0.7
    assert found.certainty(far)[0] < 0.05
    noisy, _ = fit_correspondence(points, truth(points) + rng.normal(0, 15, points.shape))
    assert noisy.certainty(near)[0] < 0.75 * found.certainty(near)[0]


def test_points_beyond_the_matches_follow_the_affine(points):
    key = apply_affine(TRUE, points)
    found, _ = fit_correspondence(points, key)
    far = np.array([[300.0, 200.0, -300.0]])
    np.testing.assert_allclose(found.map(far), apply_affine(TRUE, far), atol=3)


def test_a_mirror_image_is_no_plausible_map(points):
    assert plausible(TRUE)
    assert not plausible(np.diag([-1.0, 1.0, 1.0, 1.0]))
    mirrored = points * [-1, 1, 1]
    assert np.linalg.det(robust_affine(points, mirrored)[:3, :3]) > 0


def test_same_rows_give_the_same_map(points):
    key = spoil(truth(points), 0.3, np.random.default_rng(6))
    one, two = fit_correspondence(points, key)[0], fit_correspondence(points, key)[0]
    np.testing.assert_array_equal(one.field_mm, two.field_mm)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="12 matched points, got 5"):
        robust_affine(np.zeros((5, 3)), np.zeros((5, 3)))
