"""Geometry of arrays in space: affines, axis-aligned grids in RAS millimetres, and resampling between them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.errors import UserError

Affine = NDArray[np.float64]
"""(4, 4) float64, maps voxel index (i, j, k, 1) to RAS millimetres (x, y, z, 1)."""

MIN_SPACING_MM = 0.01
MAX_SPACING_MM = 100.0


def apply_affine(affine: Affine, points: NDArray[Any]) -> NDArray[np.float64]:
    """Map points (..., 3) through a (4, 4) affine."""
    mapped: NDArray[np.float64] = np.asarray(points, np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return mapped


def spacing_of(affine: Affine) -> NDArray[np.float64]:
    """Voxel size (3,) in mm along i, j and k: the lengths of the affine's columns."""
    lengths: NDArray[np.float64] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return lengths


def diagonal_affine(spacing_mm: NDArray[Any] | tuple[float, ...], origin_mm: NDArray[Any]) -> Affine:
    """Affine of a grid whose axes are R, A, S: `spacing_mm` (3,) on the diagonal, voxel (0,0,0) at `origin_mm` (3,)."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.broadcast_to(np.asarray(spacing_mm, np.float64), 3))
    affine[:3, 3] = origin_mm
    return affine


def check_affine(affine: NDArray[Any], where: str) -> Affine:
    """Return `affine` as float64 (4, 4).

    Raises:
        UserError: not 4x4, not finite, singular, or a voxel size outside 0.01 to 100 mm.
    """
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4):
        raise UserError(f"{where}: affine has shape {matrix.shape}, expected (4, 4)")
    if not np.isfinite(matrix).all():
        raise UserError(f"{where}: affine holds NaN or infinity; correct the header's sform or qform")
    spacing = spacing_of(matrix)
    if (spacing < MIN_SPACING_MM).any() or (spacing > MAX_SPACING_MM).any():
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise UserError(
            f"{where}: voxel size {shown} mm is outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm; correct the header"
        )
    if abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-3:
        raise UserError(f"{where}: affine is singular, its axes are linearly dependent; correct the header")
    return matrix


def checked_points(points_mm: Any) -> NDArray[np.float64]:
    """Points as (n, 3) float64.

    Raises:
        UserError: another shape, or not finite.
    """
    try:
        points = np.atleast_2d(np.asarray(points_mm, np.float64))
    except (TypeError, ValueError):
        raise UserError("points_mm: numbers are needed, (n, 3) RAS mm") from None
    if points.ndim != 2 or points.shape[1] != 3:
        raise UserError(f"points_mm: has shape {np.shape(points_mm)}, (n, 3) RAS mm are needed")
    if not np.isfinite(points).all():
        raise UserError("points_mm: holds NaN or infinity; finite RAS mm are needed")
    return points


@dataclass(frozen=True)
class Grid:
    """A box of voxels in space: `shape` (x, y, z) and the affine from voxel index to RAS mm."""

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(3,) voxel size in mm."""
        return spacing_of(self.affine)

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """(3,) RAS mm of the centre of the box."""
        return self.world((np.asarray(self.shape) - 1) / 2)

    def world(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """Voxel index (..., 3) to RAS mm (..., 3)."""
        return apply_affine(self.affine, index)

    def index(self, point_mm: NDArray[Any]) -> NDArray[np.float64]:
        """RAS mm (..., 3) to fractional voxel index (..., 3)."""
        return apply_affine(np.linalg.inv(self.affine).astype(np.float64), point_mm)

    def contains(self, point_mm: NDArray[Any], margin_voxels: float = 0.5) -> NDArray[np.bool_]:
        """Which of the points (..., 3) lie inside the box, up to `margin_voxels` beyond the outer voxel centres."""
        index = self.index(point_mm)
        inside = (index >= -margin_voxels) & (index <= np.asarray(self.shape) - 1 + margin_voxels)
        return np.asarray(inside.all(axis=-1))

    def crop(self, start: NDArray[Any], stop: NDArray[Any]) -> Grid:
        """The sub-box of voxels start <= index < stop, each (3,); may reach outside."""
        affine = self.affine.copy()
        affine[:3, 3] = self.world(np.asarray(start))
        nx, ny, nz = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Grid((nx, ny, nz), affine)


def centred_grid(centre_mm: NDArray[Any], shape: tuple[int, int, int], matrix: NDArray[Any]) -> Grid:
    """Grid of `shape` around `centre_mm` (3,) RAS, with voxel axes as the columns of `matrix` (3, 3) in mm."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = np.asarray(centre_mm) - matrix @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine)


def ras_grid(shape: tuple[int, ...], affine: Affine, spacing_mm: NDArray[Any] | tuple[float, ...]) -> Grid:
    """The smallest grid with axes R, A, S and the given spacing that contains every voxel of a volume.

    The box of the voxels' outer faces is covered and centred.

    Args:
        shape: (i, j, k) of the volume.
        affine: of the volume, to RAS mm; may be oblique or sheared.
        spacing_mm: (3,) or one number.
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    world = apply_affine(affine, corners)
    low, high = world.min(axis=0), world.max(axis=0)
    counts = np.maximum(np.ceil((high - low) / spacing - 1e-6), 1).astype(int)
    origin = (low + high) / 2 - (counts - 1) / 2 * spacing
    nx, ny, nz = (int(n) for n in counts)
    return Grid((nx, ny, nz), diagonal_affine(spacing, origin))


def closest_axes(affine: Affine) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which voxel axis runs closest to R, to A and to S, and whether along (1) or against (-1) it.

    Returns:
        order: order[0] is the voxel axis closest to R, and so on; each axis once.
        signs: (3,) of 1 or -1.
    """
    cosines = affine[:3, :3] / spacing_of(affine)
    orders = list(itertools.permutations(range(3)))
    best = orders[
        int(np.argmax([sum(abs(cosines[world, axis]) for world, axis in enumerate(order)) for order in orders]))
    ]
    signs = [1 if cosines[world, axis] >= 0 else -1 for world, axis in enumerate(best)]
    return (best[0], best[1], best[2]), (signs[0], signs[1], signs[2])


def to_closest_ras(array: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Permute and flip a volume's axes so that they run closest to R, A and S; no voxel is interpolated or copied.

    Args:
        array: (i, j, k).
        affine: of `array`, to RAS mm.

    Returns:
        view of the array, and its affine: every voxel keeps its position in RAS.
    """
    return turned_by(array, affine, *closest_axes(affine))


def turned_by(
    array: NDArray[Any], affine: Affine, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> tuple[NDArray[Any], Affine]:
    """Permute and flip a volume's axes: axis n of the view is `order[n]` of the array, against it where `signs[n]` is
    -1; every voxel keeps its position in RAS."""
    turned = affine.copy()
    turned[:3, :3] = affine[:3, order] * np.asarray(signs)
    first = [array.shape[axis] - 1 if sign < 0 else 0 for axis, sign in zip(order, signs, strict=True)]
    corner = np.zeros(3)
    corner[list(order)] = first
    turned[:3, 3] = apply_affine(affine, corner)
    view = array.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    return view, turned


def resample(array: NDArray[Any], affine: Affine, grid: Grid, *, order: int = 1, fill: float = 0.0) -> NDArray[Any]:
    """Read a volume at the voxel centres of `grid`.

    Args:
        array: (i, j, k).
        affine: of `array`, to RAS mm.
        grid: where to read; any orientation.
        order: 1 linear, 0 nearest.
        fill: value outside the volume.

    Returns:
        array of `grid.shape`; float32 for order 1, the input's type for order 0.
    """
    mapping = np.linalg.inv(affine) @ grid.affine
    dtype = np.float32 if order else array.dtype
    source = array.astype(np.float32) if order else array
    linear, offset = mapping[:3, :3], mapping[:3, 3]
    # A diagonal matrix uses scipy's separable code, several times faster than the general one.
    if np.abs(linear - np.diag(np.diag(linear))).max() < 1e-9:
        linear = np.diag(linear)
    # 'grid-constant' blends into the fill over the outermost voxel instead of cutting at its centre.
    out: NDArray[Any] = ndimage.affine_transform(
        source, linear, offset, output_shape=grid.shape, output=dtype, order=order, mode="grid-constant", cval=fill
    )
    return out


def spacing_along(affine: Affine, grid: Grid) -> NDArray[np.float64]:
    """Spacing (3,) in mm of `grid` along the voxel axes of a volume: how coarsely each of them is sampled.

    Where the axes are parallel, permuted and flipped ones included, it is the grid's own. Otherwise it is the geometric
    mean of the grid's spacings, weighted by the squared cosines between the volume's axis and the grid's: the voxel
    along the volume's axes that is nearest to the rotated one (the log-Euclidean projection, which keeps its volume).
    So an isotropic grid has its own spacing however it is rotated, and a slight rotation of a grid with thick slices
    does not blur the image within the slices.

    Args:
        affine: of the volume, voxel index to RAS mm.
        grid: any position, orientation and spacing.
    """
    towards = np.linalg.inv(affine[:3, :3] / spacing_of(affine)) @ (grid.affine[:3, :3] / grid.spacing_mm)
    weights = towards**2 / (towards**2).sum(axis=1, keepdims=True)
    finest = grid.spacing_mm.min()
    ratio = np.round(grid.spacing_mm / finest, 9)  # rotations leave errors of 1e-16: isotropic grids stay so to the bit
    along: NDArray[np.float64] = finest * (ratio**weights).prod(axis=1)
    return np.where(weights.max(axis=1) > 1 - 1e-12, grid.spacing_mm[weights.argmax(axis=1)], along)


def low_pass_sigma(source_spacing: NDArray[Any], target_spacing: NDArray[Any]) -> NDArray[np.float64]:
    """Sigma (3,) in voxels of the Gaussian that brings the source's resolution to the target's.

    sqrt(f² - 1) / 2.355 for a factor f; 0 below a factor of 1.2.
    """
    factor = np.maximum(np.asarray(target_spacing) / np.asarray(source_spacing), 1.0)
    sigma: NDArray[np.float64] = np.sqrt(factor**2 - 1) / 2.355
    sigma[factor < 1.2] = 0
    return sigma


def low_pass_reach(source_spacing: NDArray[Any], target_spacing: NDArray[Any]) -> NDArray[np.int64]:
    """How many voxels (3,) on each side `smooth_for` reads: 4 sigma."""
    return (4 * low_pass_sigma(source_spacing, target_spacing) + 0.5).astype(np.int64)


def smooth_for(array: NDArray[Any], source_spacing: NDArray[Any], target_spacing: NDArray[Any]) -> NDArray[Any]:
    """Low-pass an (i, j, k) array along the axes that will be sampled more coarsely, to prevent aliasing.

    Args:
        array: (i, j, k).
        source_spacing: (3,) mm along i, j, k.
        target_spacing: (3,) mm along the same axes, as `spacing_along` gives it for a grid with other axes.
    """
    sigma = low_pass_sigma(source_spacing, target_spacing)
    if not sigma.any():
        return array
    out: NDArray[Any] = ndimage.gaussian_filter(array.astype(np.float32), sigma, mode="nearest")
    return out
