"""Label maps of a segmentation model on other grids."""

from __future__ import annotations

import numpy as np
import pytest

from alice3d.geometry import Grid, centred_grid, diagonal_affine, resample, smooth_for, spacing_along
from alice3d.tasks.segmentation import target_grid
from alice3d.tasks.segmentation.target_grid import classes_on_grid


def _blobs() -> np.ndarray:
    """Three classes: two balls in a volume of background."""
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 24, 16)], indexing="ij"), axis=-1)
    logits = [np.zeros(ijk.shape[:3])]
    for centre in ((6, 6, 8), (14, 17, 7)):
        logits.append(3 * (4 - np.linalg.norm(ijk - np.array(centre), axis=-1)))
    e = np.exp(np.stack(logits))
    return (e / e.sum(axis=0)).astype(np.float32)


def test_classes_on_the_same_grid_are_the_argmax():
    p = _blobs()
    grid = Grid((20, 24, 16), diagonal_affine((2, 2, 3), np.zeros(3)))
    np.testing.assert_array_equal(classes_on_grid(p, grid, grid), p.argmax(axis=0))


def test_classes_on_another_grid_equal_reading_every_class_everywhere():
    p = _blobs()
    grid = Grid((20, 24, 16), diagonal_affine((2, 2, 3), np.array([-20.0, 5, 3])))
    turn = np.array([[0, -1.1, 0.1], [1.2, 0, 0], [0, 0.1, 1.5]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[:3, 3] = (25, 0, -3)
    target = Grid((45, 50, 40), affine)
    every = [resample(c, grid.affine, target, order=1, fill=0.0 if k else 1.0) for k, c in enumerate(p)]
    expected = np.stack(every).argmax(axis=0)
    got = classes_on_grid(p, grid, target)
    assert got.max() == 2
    np.testing.assert_array_equal(got, expected)


def every_class_everywhere(p: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """The plain reference implementation."""
    along_mm = spacing_along(grid.affine, target)
    smooth = [smooth_for(c, grid.spacing_mm, along_mm) for c in p]
    values = [resample(c, grid.affine, target, order=1, fill=0.0 if k else 1.0) for k, c in enumerate(smooth)]
    return np.stack(values).argmax(axis=0)


def turned(degrees: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxel axes in mm of a grid turned about the third axis."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag(spacing)


TARGETS = {
    "finer": centred_grid(np.array([19.0, 23, 22]), (50, 60, 50), np.diag([0.8, 0.8, 1.0])),
    "coarser": centred_grid(np.array([19.0, 23, 22]), (9, 8, 7), np.diag([5.0, 6.0, 8.0])),
    "thick slices": centred_grid(np.array([19.0, 23, 22]), (40, 50, 4), np.diag([1.0, 1.0, 14.0])),
    "other axes": centred_grid(np.array([19.0, 23, 22]), (8, 40, 50), np.diag([1.1, 0.9, 7.0])[:, [2, 0, 1]] * -1),
    "oblique": centred_grid(np.array([17.0, 25, 21]), (40, 45, 8), turned(27, (1.3, 1.0, 7.0))),
    "oblique, coarser": centred_grid(np.array([17.0, 25, 21]), (9, 9, 9), turned(40, (6.0, 6.0, 6.0))),
    "partly outside": centred_grid(np.array([0.0, 45, 3]), (30, 30, 30), np.diag([1.7, 1.7, 2.1])),
    "half of the voxels": Grid((40, 48, 32), diagonal_affine((1.0, 1.0, 1.5), np.zeros(3))),
}


@pytest.mark.parametrize("name", TARGETS)
def test_one_box_per_class_equals_reading_every_class_everywhere(name: str) -> None:
    """Many small classes, also at the border and thinner than a voxel of the target, and one that is nowhere."""
    grid = Grid((20, 24, 16), diagonal_affine((2, 2, 3), np.zeros(3)))
    ijk = np.indices(grid.shape).transpose(1, 2, 3, 0)
    rng = np.random.default_rng(0)
    logits = [np.zeros(grid.shape)]
    for radius in (4.0, 3.0, 2.5, 1.2, 5.0, 0.7):
        centre = rng.uniform((0, 0, 0), grid.shape)
        logits.append(rng.uniform(1, 6) * (radius - np.linalg.norm(ijk - centre, axis=-1)))
    logits.append(4 * (1.0 - np.linalg.norm(ijk[..., :2] - ijk[..., 2:] * [0.7, 0.9] - [4, 5], axis=-1)))  # a tube
    logits.append(np.full(grid.shape, -20.0))
    e = np.exp(np.stack(logits))
    p = (e / e.sum(axis=0)).astype(np.float32)
    expected = every_class_everywhere(p, grid, TARGETS[name])
    assert len(np.unique(expected)) >= 4
    np.testing.assert_array_equal(classes_on_grid(p, grid, TARGETS[name]), expected)


def test_even_probabilities_go_to_the_first_class() -> None:
    """Midway between two voxels both have exactly a half."""
    p = np.zeros((3, 6, 6, 6), np.float32)
    p[0], p[0, 1:5, 1:5, 1:5] = 1, 0
    p[1, 1:3, 1:5, 1:5], p[2, 3:5, 1:5, 1:5] = 1, 1
    grid, target = Grid((6, 6, 6), np.eye(4)), Grid((11, 11, 11), diagonal_affine((0.5, 0.5, 0.5), np.zeros(3)))
    got = classes_on_grid(p, grid, target)
    np.testing.assert_array_equal(got, every_class_everywhere(p, grid, target))
    assert got[1, 4, 4] == 0  # between background and the first
    assert got[5, 4, 4] == 1  # between the two structures


def test_a_class_is_read_in_its_own_box_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small structures far apart: the box of both is read for background, not for each."""
    read: list[int] = []

    def counting(array: np.ndarray, affine: np.ndarray, grid: Grid, **options: float) -> np.ndarray:
        read.append(int(np.prod(grid.shape)))
        return resample(array, affine, grid, **options)

    monkeypatch.setattr(target_grid, "resample", counting)
    p = np.zeros((3, 30, 30, 30), np.float32)
    p[1, 2:5, 2:5, 2:5], p[2, 25:28, 25:28, 25:28] = 1, 1
    p[0] = 1 - p[1] - p[2]
    grid, target = Grid((30, 30, 30), np.eye(4)), Grid((60, 60, 60), diagonal_affine((0.5,) * 3, np.zeros(3)))
    classes_on_grid(p, grid, target)
    assert len(read) == 3
    assert max(read) > 50**3
    assert sorted(read)[1] <= 12**3


def test_the_order_of_a_scans_axes_does_not_matter():
    """Thick slices along another axis of the array: the same label map, its axes permuted."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), (20, 24, 16)).astype(np.float32).transpose(3, 0, 1, 2)
    grid = Grid((20, 24, 16), np.eye(4))
    target = Grid((20, 24, 4), diagonal_affine((1.0, 1.0, 4.0), np.array([0, 0, 1.5])))
    affine = target.affine[:, [2, 0, 1, 3]]
    expected = classes_on_grid(p, grid, target).transpose(2, 0, 1)
    np.testing.assert_array_equal(classes_on_grid(p, grid, Grid((4, 20, 24), affine)), expected)


def test_a_scan_without_structures_is_background():
    p = np.zeros((3, 4, 4, 4), np.float32)
    p[0] = 1
    grid = Grid((4, 4, 4), np.eye(4))
    assert not classes_on_grid(p, grid, Grid((9, 9, 9), np.diag([0.5, 0.5, 0.5, 1]))).any()
