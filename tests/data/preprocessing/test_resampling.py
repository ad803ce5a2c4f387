"""The fast path for parallel axes gives what filter, padding and interpolation give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from alice3d.data.preprocessing.body import find_body
from alice3d.data.preprocessing.resampling import onto_grid, parallel_axes
from alice3d.geometry import Affine, Grid, diagonal_affine, ras_grid, resample, smooth_for, spacing_of, to_closest_ras

FILL = -1024.0


def slow_road(array: NDArray[np.int16], affine: Affine, grid: Grid) -> NDArray[np.float32]:
    """Three Gaussian filters, one repeated voxel on every face, one interpolation by scipy."""
    smooth = np.pad(smooth_for(array, spacing_of(affine), grid.spacing_mm), 1, mode="edge")
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3].sum(axis=1)
    values: NDArray[np.float32] = resample(smooth, moved, grid, fill=FILL)
    return values


def scan(rng: np.random.Generator) -> tuple[NDArray[np.int16], Affine]:
    """Noise with axes in any order and direction, and any way to lie in memory."""
    array = rng.integers(-1000, 2000, tuple(rng.integers(2, 40, 3))).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, rng.permutation(3)] * rng.uniform(0.5, 4, 3) * rng.choice([-1, 1], 3)
    affine[:3, 3] = rng.normal(size=3) * 50
    return (np.asfortranarray(array) if rng.random() < 0.5 else array), affine


@pytest.mark.parametrize("seed", range(60))
def test_one_product_an_axis_equals_filter_and_interpolation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    array, affine = scan(rng)
    turned, turned_affine = to_closest_ras(array, affine)
    grid = ras_grid(turned.shape, turned_affine, rng.uniform(0.7, 6, 3))
    if seed % 3:  # a part of it, or more than there is
        start = rng.integers(0, np.maximum(np.asarray(grid.shape) // 2, 1)) if seed % 3 == 1 else -rng.integers(0, 5, 3)
        grid = grid.crop(start, np.maximum(start + 1, np.asarray(grid.shape) - start))
    expected = slow_road(turned, turned_affine, grid)
    np.testing.assert_allclose(onto_grid(turned, turned_affine, grid, fill=FILL, whole=False), expected, atol=1e-3)
    np.testing.assert_allclose(onto_grid(array, affine, grid, fill=FILL, whole=False), expected, atol=1e-3)
    whole = onto_grid(turned, turned_affine, grid, fill=FILL, whole=True)
    assert whole.dtype == np.int16
    assert np.abs(whole - expected).max() <= 0.5 + 1e-3


def test_axes_count_as_parallel_up_to_what_headers_round() -> None:
    grid = Grid((50, 50, 40), diagonal_affine((4.0, 4.0, 4.0), np.array([-100.0, -100.0, 0.0])))
    affine = diagonal_affine((2.5, 2.5, 2.5), np.array([-101.0, -99.0, 1.0]))
    for angle, parallel in ((0.0, True), (1e-7, True), (1e-3, False)):
        turn = np.array([[1, -angle, 0, 0], [angle, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        assert (parallel_axes(turn @ affine, grid) is not None) is parallel
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 2000, (80, 80, 64)).astype(np.int16)
    turn = np.array([[1, -1e-7, 0, 0], [1e-7, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    quick = onto_grid(array, turn @ affine, grid, fill=FILL, whole=False)
    np.testing.assert_allclose(quick, slow_road(array, turn @ affine, grid), atol=0.1)


def test_the_same_grid_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(300, 100, (30, 21, 40)).astype(np.float32)
    affine = diagonal_affine((1.1, 0.7, 3.0), np.array([-12.3, 7.1, 5.5]))
    grid = ras_grid(array.shape, affine, (1.1, 0.7, 3.0))
    np.testing.assert_array_equal(onto_grid(array, affine, grid, fill=0.0, whole=False), array)


def test_the_body_is_the_same_at_every_spacing() -> None:
    boxes = []
    for mm in (0.8, 1.0, 2.0, 4.0):
        count = int(160 / mm)
        x, y, z = np.meshgrid(*[(np.arange(count) + 0.5) * mm - 80] * 3, indexing="ij", sparse=True)
        inside = (x / 50) ** 2 + (y / 40) ** 2 + (z / 60) ** 2 < 1
        image = np.where(inside, 40, -1000).astype(np.int16)
        body = find_body(image, diagonal_affine((mm, mm, mm), np.full(3, mm / 2 - 80)), "ct")
        assert body is not None
        boxes.append(np.concatenate(body.box_mm()))
    np.testing.assert_allclose(boxes, [[-50, -40, -60, 50, 40, 60]] * 4, atol=4)
