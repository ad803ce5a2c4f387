"""The whole pipeline from a file on: another grid gives the same world point, and a moved patient the moved point."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import alice3d
from alice3d.matching.matcher import body_points

VOXEL_MM = 8.0
"""Of the scan; its voxels are 8 to 9 mm."""


def turn(x_deg: float, z_deg: float, scale: float = 1.0) -> np.ndarray:
    """A rotation about x, then about z, and a scaling; (4, 4)."""
    a, b = np.deg2rad([x_deg, z_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    made = np.eye(4)
    made[:3, :3] = scale * about_z @ about_x
    return made


@pytest.fixture(scope="module")
def scan(tiny_scans):
    image = nib.load(sorted(tiny_scans.images.glob("*.nii.gz"))[0])
    return np.asarray(image.dataobj, np.float32), image.affine


@pytest.fixture(scope="module")
def shipped():
    return alice3d.Matcher.load("headneck-ct")


@pytest.fixture(scope="module")
def points(shipped, scan):
    """Places well inside the body, RAS mm."""
    embedded = alice3d.embed(shipped, scan)
    inside = body_points(embedded, 400)
    core = [embedded.in_body(inside + shift, margin=0) for shift in 16 * np.vstack([np.eye(3), -np.eye(3)])]
    return inside[np.all(core, axis=0)]


def test_a_scan_saved_on_an_oblique_grid_of_other_voxels_gives_the_same_points(shipped, scan, points):
    array, affine = scan
    grid = turn(6, 9) @ np.diag([5.0, 6.0, 7.0, 1.0])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in array.shape], indexing="ij")).reshape(3, -1)
    there = np.linalg.inv(grid)[:3, :3] @ (affine[:3, :3] @ corners + affine[:3, 3:])
    low, high = there.min(axis=1), there.max(axis=1)
    grid[:3, 3] = grid[:3, :3] @ low
    mapping = np.linalg.inv(affine) @ grid
    shape = tuple(np.ceil(high - low).astype(int) + 1)
    saved = ndimage.affine_transform(array, mapping[:3, :3], mapping[:3, 3], shape, order=1, cval=-1000)
    found = alice3d.match(shipped, scan, (saved, grid), points, mode="direct").point_mm
    off = np.linalg.norm(found - points, axis=1)
    assert np.median(off) < VOXEL_MM / 2
    assert np.mean(off < VOXEL_MM) > 0.85


@pytest.mark.parametrize(
    ("moved", "median_mm"), [(turn(0, 0), VOXEL_MM / 4), (turn(5, 8), VOXEL_MM), (turn(0, 0, 1.08), VOXEL_MM / 2)]
)
def test_a_moved_turned_or_larger_patient_gives_the_moved_points(shipped, scan, points, moved, median_mm):
    array, affine = scan
    moved = moved.copy()
    moved[:3, 3] = [30.0, -20.0, 45.0]
    found = alice3d.match(shipped, scan, (array, moved @ affine), points, mode="robust").point_mm
    off = np.linalg.norm(found - (points @ moved[:3, :3].T + moved[:3, 3]), axis=1)
    assert np.median(off) < median_mm
    assert np.mean(off < VOXEL_MM) > 0.85
