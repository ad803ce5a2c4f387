"""The body is found in CT and MR, and the whole scan is kept where none stands out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.body import find_body
from alice3d.geometry import diagonal_affine

SHAPE = (60, 50, 40)
AFFINE = diagonal_affine((4.0, 4.0, 4.0), np.array([-100.0, -80.0, 0.0]))


def ellipsoid(radii: tuple[float, float, float] = (0.6, 0.6, 0.9)) -> NDArray[np.bool_]:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    return (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 < 1


def test_ct_body_is_found_without_the_couch_and_with_lungs_filled() -> None:
    rng = np.random.default_rng(0)
    inside = ellipsoid()
    image = np.where(inside, 40.0, -1000.0)
    lungs = ellipsoid((0.25, 0.25, 0.4))
    image[lungs] = -850
    image[:, 2, :] = 100  # a couch, one voxel thin
    body = find_body((image + rng.normal(0, 20, SHAPE)).astype(np.int16), AFFINE, "ct")
    assert body is not None
    overlap = 2 * (body.mask & inside).sum() / (body.mask.sum() + inside.sum())
    assert overlap > 0.95
    assert body.mask[lungs].all()
    assert not body.mask[:, 2, :].any()


def test_two_legs_both_belong_to_the_body() -> None:
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    legs = ((x - 0.4) ** 2 + y**2 < 0.06) | ((x + 0.4) ** 2 + y**2 < 0.05)
    body = find_body(np.where(legs, 50, -1000).astype(np.int16), AFFINE, "ct")
    assert body is not None
    assert body.mask[legs].mean() > 0.95


def test_mr_body_is_found_at_any_scale_of_intensity() -> None:
    rng = np.random.default_rng(1)
    inside = ellipsoid()
    for scale in (1.0, 5000.0):
        noise = np.abs(rng.normal(0, 0.02, SHAPE))
        image = (np.where(inside, rng.uniform(0.4, 1.0, SHAPE), 0) + noise) * scale
        body = find_body(image.astype(np.float32), AFFINE, "mr")
        assert body is not None
        overlap = 2 * (body.mask & inside).sum() / (body.mask.sum() + inside.sum())
        assert overlap > 0.93


def test_box_lies_around_the_body() -> None:
    image = np.full(SHAPE, -1000, np.int16)
    image[10:40, 12:30, 5:35] = 60
    body = find_body(image, AFFINE, "ct")
    assert body is not None
    low, high = body.box_mm()
    np.testing.assert_allclose(low, AFFINE[:3, 3] + 4 * (np.array([10, 12, 5]) - 0.5), atol=4)
    np.testing.assert_allclose(high, AFFINE[:3, 3] + 4 * (np.array([39, 29, 34]) + 0.5), atol=4)


def test_no_body_in_a_crop_inside_tissue_or_in_air() -> None:
    rng = np.random.default_rng(2)
    tissue = rng.uniform(0.5, 1.0, SHAPE).astype(np.float32)
    assert find_body(tissue, AFFINE, "mr") is None
    assert find_body(np.full(SHAPE, -1000, np.int16), AFFINE, "ct") is None
    mixed = np.where(rng.random(SHAPE) < 0.5, 200.0, 600.0).astype(np.float32)
    assert find_body(mixed, AFFINE, "mr") is None
