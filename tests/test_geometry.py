"""Places in the world survive every change of axes, orientation and spacing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scan_files import affine_of

from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.errors import UserError
from alice3d.geometry import (
    Grid,
    apply_affine,
    centred_grid,
    check_affine,
    closest_axes,
    diagonal_affine,
    ras_grid,
    resample,
    smooth_for,
    spacing_along,
    spacing_of,
    to_closest_ras,
)
from alice3d.io.volume import Volume


def random_affine(seed: int, shear: float = 0.0) -> NDArray[np.float64]:
    """Rotation, mirror image or not, anisotropic spacing, shear, origin."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ (np.eye(3) + shear * np.triu(rng.uniform(-1, 1, (3, 3)), 1)) * rng.uniform(0.4, 6, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return affine


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_every_voxel_keeps_its_place_when_axes_are_turned(seed: int) -> None:
    affine = random_affine(seed, shear=0.3)
    shape = (3, 4, 5)
    places = apply_affine(affine, np.argwhere(np.ones(shape))).reshape(*shape, 3)
    order = []
    for axis in range(3):  # carry each coordinate along as an image of its own
        turned, turned_affine = to_closest_ras(places[..., axis], affine)
        expected = apply_affine(turned_affine, np.argwhere(np.ones(turned.shape)))[:, axis]
        np.testing.assert_allclose(turned.ravel(), expected, atol=1e-9)
        order.append(turned_affine)
    assert closest_axes(order[0]) == ((0, 1, 2), (1, 1, 1))
    assert np.linalg.det(order[0][:3, :3]) * np.linalg.det(affine[:3, :3]) != 0


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 5.0), st.booleans())
@settings(max_examples=60, deadline=None)
def test_stored_affine_maps_back_to_the_source_within_a_hundredth_mm(seed: int, spacing: float, cropped: bool) -> None:
    """A linear ramp in world coordinates stays the same ramp: each stored voxel holds its own place."""
    rng = np.random.default_rng(seed)
    affine = random_affine(seed, shear=0.1)
    shape = tuple(int(n) for n in rng.integers(20, 30, 3))
    world = apply_affine(affine, np.argwhere(np.ones(shape))).reshape(*shape, 3)
    spacing = float(max(spacing, np.ptp(world.reshape(-1, 3), axis=0).max() / 60))
    for axis in range(3):
        ramp = world[..., axis].astype(np.float64)
        base = float(ramp.min())
        prepared = prepare_array(
            Volume((ramp - base).astype(np.float32), affine), spacing_mm=spacing, modality="mr", crop="none"
        )
        inner = _inside(prepared.grid, affine, shape, margin=3 * max(1.0, *(spacing / spacing_of(affine))))
        places = prepared.grid.world(np.argwhere(inner))[:, axis]
        if len(places):
            assert np.abs(prepared.image[inner] + base - places).max() < 0.01
        np.testing.assert_allclose(prepared.grid.spacing_mm, spacing)


def _inside(grid: Any, affine: NDArray[Any], shape: tuple[int, ...], margin: float) -> NDArray[np.bool_]:
    """Voxels of the grid whose neighbourhood lies wholly in the source."""
    index = apply_affine(np.linalg.inv(affine), grid.world(np.argwhere(np.ones(grid.shape))))
    return ((index >= margin) & (index <= np.asarray(shape) - 1 - margin)).all(axis=1).reshape(grid.shape)


@pytest.mark.parametrize("axes", ["".join(p) for p in itertools.product("RL", "AP", "SI")] + ["PLI", "ILP", "SAR"])
def test_left_and_right_are_kept_whatever_the_order_of_axes(axes: str) -> None:
    """A bright blob at the patient's right, front and top stays there."""
    target = np.array([9.0, 7.0, 8.0])
    spacing, shape = np.array([2.0, 2.5, 3.0]), (30, 30, 30)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, letter in enumerate(axes):
        row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter]
        affine[row, column] = spacing[column] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(shape) - 1) / 2
    world = apply_affine(affine, np.argwhere(np.ones(shape))).reshape(*shape, 3)
    image = (1000 * np.exp(-((world - target) ** 2).sum(axis=-1) / 40)).astype(np.float32)
    prepared = prepare_array(Volume(image, affine), spacing_mm=2, modality="mr", crop="none")
    weights = prepared.image.ravel().astype(float)
    centre = (prepared.grid.world(np.argwhere(np.ones(prepared.grid.shape))) * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(centre, target, atol=0.3)


def test_oblique_volume_is_resampled_to_its_true_place() -> None:
    affine = random_affine(5)
    affine[:3, :3] = affine[:3, :3] / spacing_of(affine) * 1.5
    shape = (40, 40, 40)
    centre = apply_affine(affine, np.array([22.0, 15.0, 24.0]))
    world = apply_affine(affine, np.argwhere(np.ones(shape))).reshape(*shape, 3)
    image = (500 * np.exp(-((world - centre) ** 2).sum(axis=-1) / 40)).astype(np.float32)
    prepared = prepare_array(Volume(image, affine), spacing_mm=1.5, modality="mr", crop="none")
    weights = prepared.image.ravel().astype(float)
    found = (prepared.grid.world(np.argwhere(np.ones(prepared.grid.shape))) * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(found, centre, atol=0.05)


def test_same_spacing_and_axes_give_the_same_voxels() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (11, 9, 8)).astype(np.int16)
    affine = diagonal_affine((2.0, 3.0, 1.5), np.array([4.0, -7.0, 90.0]))
    prepared = prepare_array(Volume(image, affine), spacing_mm=(2.0, 3.0, 1.5), modality="ct", crop="none")
    np.testing.assert_array_equal(prepared.image, image)
    np.testing.assert_allclose(prepared.grid.affine, affine)


def test_ras_grid_holds_every_voxel_of_an_oblique_volume() -> None:
    affine = random_affine(3)
    grid = ras_grid((10, 12, 14), affine, (2.0, 2.0, 2.0))
    corners = apply_affine(affine, np.array(list(itertools.product((0, 9), (0, 11), (0, 13)))))
    assert grid.contains(corners).all()


def test_coarser_sampling_is_low_passed() -> None:
    """A pattern that changes sign every voxel vanishes at four times the spacing instead of turning into stripes."""
    stripes = np.tile([-100.0, 100.0], 32)[:, None, None] * np.ones((1, 8, 8))
    affine = diagonal_affine((1.0, 1.0, 1.0), np.zeros(3))
    grid = ras_grid(stripes.shape, affine, (4.0, 1.0, 1.0))
    smooth = smooth_for(stripes, np.ones(3), grid.spacing_mm)
    assert np.abs(resample(smooth, affine, grid)[2:-2]).max() < 2


def turned(degrees: float, spacing: tuple[float, float, float]) -> Grid:
    """A grid turned about the second axis."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return centred_grid(np.zeros(3), (5, 6, 7), np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) @ np.diag(spacing))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA", "PIR", "ASL"])
def test_spacing_along_parallel_axes_is_the_grids_own(axes: str) -> None:
    """Also where the volume's axes are permuted or flipped."""
    grid = Grid((4, 5, 6), diagonal_affine((1.0, 2.0, 5.0), np.array([3.0, -4, 9])))
    letters = {"R": 1.0, "L": 1.0, "A": 2.0, "P": 2.0, "S": 5.0, "I": 5.0}
    found = spacing_along(affine_of((0.5, 3.0, 0.7), axes), grid)
    np.testing.assert_array_equal(found, [letters[letter] for letter in axes])


def test_spacing_along_is_exact_for_isotropic_grids_and_between_the_two_otherwise() -> None:
    stored = diagonal_affine((1.0, 1.0, 5.0), np.zeros(3))
    for degrees in (0.0, 13.0, 45.0, 77.0):
        even = turned(degrees, (3.0, 3.0, 3.0))
        assert (spacing_along(stored, even) == even.spacing_mm.min()).all()
    slight, half, full = (spacing_along(stored, turned(degrees, (1.0, 1.0, 5.0))) for degrees in (15, 45, 90))
    assert slight[0] < 1.2  # below the factor that is low-passed: slices stay sharp within
    assert slight[2] > 4
    np.testing.assert_allclose(half, [np.sqrt(5), 1, np.sqrt(5)])
    np.testing.assert_allclose(full, [5, 1, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:3], "shape"),
        (lambda a: a * np.nan, "NaN"),
        (lambda a: np.diag([0.001, 1, 1, 1]), "voxel size 0.001"),
        (lambda a: np.diag([500.0, 1, 1, 1]), "voxel size 500"),
        (lambda a: np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_bad_affines_are_refused(change: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_affine(change(np.eye(4)), "scan.nii")
