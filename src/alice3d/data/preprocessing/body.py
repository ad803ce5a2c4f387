"""Segments the patient in CT or MR, on a coarse copy: for the crop and for statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.data.preprocessing.resampling import multiply, parallel_axes, reading_matrix
from alice3d.geometry import Affine, Grid, apply_affine, resample, spacing_of

COARSE_MM = 4.0
"""Every n-th voxel is read, up to about this far apart: enough for a bounding box and for statistics."""
SMOOTH_MM = 1.5
"""Sigma of the Gaussian before that, against noise and aliasing; at most one voxel of what is read."""
CT_TISSUE_HU = -350.0
"""Above: tissue; clothes, foam and most couch tops lie below."""
OPENING_MM = 6.0
"""Thinner objects (couch, tubes, masks) are removed by the opening."""
SECOND_COMPONENT = 0.05
"""Connected components of at least this fraction of the largest belong to the body too: legs, arms beside the torso."""
MIN_SHARE = 0.002
"""A mask smaller than this fraction of the scan is no body."""
MAX_BACKGROUND = 0.25
"""MR: the background's median lies below this fraction of the tissue's, otherwise no body is found."""
MIN_FACES = 0.5
"""MR: at least this fraction of the voxels on the four side faces is background, otherwise no body is found."""


@dataclass(frozen=True)
class Body:
    """Where the patient is: a mask (True = body) on a coarse grid of the scan."""

    mask: NDArray[np.bool_]
    affine: Affine

    def box_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high corner (3,), RAS mm, of the bounding box of the body's voxels, outer faces included."""
        box = _box(self.mask)
        low, high = [side.start - 0.5 for side in box], [side.stop - 0.5 for side in box]
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
        world = apply_affine(self.affine, corners)
        return world.min(axis=0), world.max(axis=0)

    def on(self, grid: Grid) -> NDArray[np.bool_]:
        """The mask at the voxel centres of another grid."""
        axes = parallel_axes(self.affine, grid)
        if axes is None:
            inside: NDArray[np.bool_] = resample(self.mask, self.affine, grid, order=0).astype(bool)
            return inside
        mask, lines = self.mask.transpose([axis.source for axis in axes]), []
        for axis, count, size in zip(axes, grid.shape, mask.shape, strict=True):
            nearest = np.floor(axis.start + axis.step * np.arange(count) + 0.5).astype(int)
            lines.append(np.where((nearest >= 0) & (nearest < size), nearest, size))
        padded = np.pad(mask, ((0, 1),) * 3)  # one more plane of False for the outside
        return padded[np.ix_(*lines)]


def find_body(array: NDArray[Any], affine: Affine, modality: Literal["ct", "mr"]) -> Body | None:
    """The patient's mask; None where no body can be separated from a background: a crop inside the body, an empty scan.

    Args:
        array: (i, j, k), with axes closest to R, A, S.
        affine: of `array`, to RAS mm.
        modality: ct reads Hounsfield units, mr separates tissue from dark background.
    """
    spacing = spacing_of(affine)
    step = np.maximum(np.floor(COARSE_MM / spacing + 1e-6), 1).astype(int)
    sigma = np.minimum(SMOOTH_MM / spacing, step)
    counts = [-(-size // every) for size, every in zip(array.shape, step, strict=True)]
    smooth = np.empty_like(array, np.float32, order="K", shape=counts)
    parts = zip(array.shape, counts, step, sigma, strict=True)
    matrices = [reading_matrix(size, count, 0.0, every, voxels) for size, count, every, voxels in parts]
    multiply(array, matrices, smooth, dtype=np.float32)
    coarse_affine = affine.copy()
    coarse_affine[:3, :3] *= step
    tissue = smooth > CT_TISSUE_HU if modality == "ct" else _bright(smooth)
    if tissue is None or not tissue.any():
        return None
    tissue = np.ascontiguousarray(tissue)
    radius = np.maximum(np.round(OPENING_MM / 2 / (spacing * step)), 0).astype(int)
    mask = _largest(_opened(tissue, radius))
    if mask.mean() < MIN_SHARE:
        return None
    for axis in range(3):  # restore what the opening removed from the surface
        grown = _neighbours(mask, axis, True)
        mask = grown & tissue | mask
    mask = _without_holes(mask)
    return Body(mask, coarse_affine)


def _bright(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Voxels brighter than the background; None where the volume has no dark background around bright tissue."""
    low, high = np.percentile(values, (0.1, 99.0))
    if not high > low:
        return None
    level = np.sqrt(np.clip((values - low) / (high - low), 0, 1))  # the root spreads the dark end
    bright: NDArray[np.bool_] = level > _otsu(level)
    inside, outside = values[bright], values[~bright]
    if not inside.size or not outside.size:
        return None
    if np.median(outside) - low > MAX_BACKGROUND * (np.median(inside) - low):
        return None
    faces = np.concatenate([~bright[[0, -1]].reshape(-1), ~bright[:, [0, -1]].reshape(-1)])
    return bright if faces.mean() >= MIN_FACES else None


def _otsu(level: NDArray[np.float32]) -> float:
    """The threshold in 0 .. 1 that separates two groups best (Otsu, 1979)."""
    counts, edges = np.histogram(level, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)) / np.maximum(above, 1)
    return float(edges[1:][np.argmax(below * above * (mean_below - mean_above) ** 2)])


def _opened(mask: NDArray[np.bool_], radius: NDArray[Any]) -> NDArray[np.bool_]:
    """Erode and dilate by a box of the given radius (3,) in voxels; the volume's faces do not erode."""
    for grow in (False, True):
        for axis in range(3):
            for _ in range(int(radius[axis])):
                mask = _neighbours(mask, axis, grow)
    return mask


def _neighbours(mask: NDArray[np.bool_], axis: int, grow: bool) -> NDArray[np.bool_]:
    """True where a voxel or one of its two neighbours along an axis is True (grow), or all of them are."""
    out = mask.copy()
    lower: list[Any] = [slice(None)] * 3
    upper: list[Any] = [slice(None)] * 3
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    join = np.logical_or if grow else np.logical_and
    for here, there in ((lower, upper), (upper, lower)):
        join(out[tuple(here)], mask[tuple(there)], out=out[tuple(here)])
    return out


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Bounding box of the True voxels, of which there is at least one."""
    lines = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected component, and those that are not much smaller."""
    if not mask.any():
        return mask
    box = _box(mask)
    components, count = ndimage.label(mask[box])
    if count == 1:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    kept = np.zeros_like(mask)
    kept[box] = np.isin(components, np.flatnonzero(sizes >= SECOND_COMPONENT * sizes.max()), kind="table")
    return kept


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes of axial slices: lungs, bowel gas, cavities."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[:, 1, 1] = in_plane[1, :, 1] = True
    box = _box(mask)  # outside it all is background, connected to what touches its side faces
    components, count = ndimage.label(~mask[box], in_plane)
    outside = np.zeros(count + 1, bool)
    for face in (components[0], components[-1], components[:, 0], components[:, -1]):
        outside[face] = True
    outside[0] = False
    filled = np.zeros_like(mask)
    filled[box] = ~outside.take(components)
    return filled
