"""Label maps of a segmentation model on other grids."""

from __future__ import annotations

import numpy as np

from alice3d.geometry import Grid, diagonal_affine
from alice3d.tasks.segmentation.model import classes_on_grid


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
    from alice3d.geometry import resample

    every = [resample(c, grid.affine, target, order=1, fill=0.0 if k else 1.0) for k, c in enumerate(p)]
    expected = np.stack(every).argmax(axis=0)
    got = classes_on_grid(p, grid, target)
    assert got.max() == 2
    np.testing.assert_array_equal(got, expected)


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
