"""Label maps lie on their scan's grid, on a part of it, or on a finer one; anything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scan_files import affine_of, oblique

from alice3d.data.preprocessing.label_grid import onto_scan
from alice3d.geometry import apply_affine, to_closest_ras
from alice3d.io.volume import ScanError

SHAPE = (12, 10, 8)


def rotated(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 5], [s, c, 0, -3], [0, 0, 1, 7], [0, 0, 0, 1]]) @ np.diag([1.5, 1.5, 3, 1])


def label_of(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)


def moved(affine: NDArray[np.float64], voxels: Any) -> NDArray[np.float64]:
    other = affine.copy()
    other[:3, 3] = apply_affine(affine, np.array(voxels, np.float64))
    return other


def places(label: NDArray[Any], affine: NDArray[np.float64], value: int) -> Any:
    points = apply_affine(affine, np.argwhere(label == value)).round(2) + 0.0
    return {tuple(point) for point in points.tolist()}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "oblique"])
@pytest.mark.parametrize("label_axes", ["same", (2, 0, 1), (1, 0, 2)])
def test_a_part_of_the_scans_grid_is_padded_at_its_true_place(axes: str, label_axes: Any) -> None:
    affine = oblique() if axes == "oblique" else affine_of(axes=axes)
    part, part_affine = label_of((5, 4, 3)), moved(affine, (3, 2, 4))
    if label_axes != "same":  # another order of axes, the first against its direction
        part, part_affine = part.transpose(label_axes)[::-1], part_affine[:, [*label_axes, 3]]
        part_affine = part_affine @ np.array([[-1, 0, 0, part.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    fitted = onto_scan(part, part_affine, SHAPE, affine, "a")
    scan, scan_affine = to_closest_ras(np.zeros(SHAPE), affine)
    assert fitted.label.shape == scan.shape
    np.testing.assert_allclose(fitted.affine, scan_affine)
    for value in (1, 2):
        assert places(fitted.label, fitted.affine, value) == places(part, part_affine, value)


def test_the_scans_own_grid_is_unchanged_to_the_bit() -> None:
    affine = affine_of(axes="PIR")
    fitted = onto_scan(label_of(), affine, SHAPE, affine, "a")
    expected, expected_affine = to_closest_ras(label_of(), affine)
    np.testing.assert_array_equal(fitted.label, expected)
    np.testing.assert_array_equal(fitted.affine, expected_affine)
    assert not fitted.note


@pytest.mark.parametrize("degrees", [0.0, 44.99999, 45.0, 135.0])
@pytest.mark.parametrize("noise", [0.0, 1e-5, -1e-5])
def test_noise_in_the_header_turns_no_axes(degrees: float, noise: float) -> None:
    affine = rotated(degrees)
    fitted = onto_scan(label_of(), rotated(degrees + noise), SHAPE, affine, "a")
    expected, _ = to_closest_ras(label_of(), affine)
    np.testing.assert_array_equal(fitted.label, expected)


def test_a_finer_grid_is_kept() -> None:
    affine = affine_of(axes="LPS")
    fine = affine @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = apply_affine(affine, np.array([-0.25, -0.25, 0]))  # the outer faces are the scan's
    label = np.repeat(np.repeat(label_of(), 2, 0), 2, 1)
    fitted = onto_scan(label, fine, SHAPE, affine, "a")
    assert fitted.label.shape == (24, 20, 8)
    assert places(fitted.label, fitted.affine, 1) == places(label, fine, 1)
    assert "2 x 2 x 1 voxels" in fitted.note


def test_more_than_the_scan_may_hold_nothing_outside() -> None:
    affine = affine_of()
    around = np.zeros((14, 12, 10), np.uint8)
    around[1:13, 1:11, 1:9] = label_of()
    fitted = onto_scan(around, moved(affine, (-1, -1, -1)), SHAPE, affine, "a")
    np.testing.assert_array_equal(fitted.label, label_of())
    around[0, 0, 0] = 1
    with pytest.raises(ScanError, match="1 of its voxels lie outside its scan"):
        onto_scan(around, moved(affine, (-1, -1, -1)), SHAPE, affine, "a")


@pytest.mark.parametrize(
    ("shape", "start", "words"),
    [
        (SHAPE, (1, 0, 0), "up to 2.00 mm off"),
        (SHAPE, (0.5, 0, 0), "up to 1.00 mm off"),
        ((5, 4, 3), (0.5, 0, 0), "5x4x3 voxels"),
        ((5, 4, 3), (10, 0, 0), "5x4x3 voxels"),
        ((5, 4, 3), (100, 0, 0), "5x4x3 voxels"),
    ],
)
def test_other_grids_are_refused(shape: tuple[int, ...], start: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        onto_scan(label_of(shape), moved(affine_of(), start), SHAPE, affine_of(), "a")


@pytest.mark.parametrize("scale", [0.7, 1.1, 2.0])
def test_other_spacings_are_refused(scale: float) -> None:
    with pytest.raises(ScanError, match="on another grid"):
        onto_scan(label_of(), affine_of() @ np.diag([scale, scale, scale, 1]), SHAPE, affine_of(), "a")
