"""Brings a scan onto a grid with axes R, A, S: low-pass and interpolation in one, axis by axis where axes are parallel.

Low-pass, linear interpolation, edge voxels extended by half a voxel and the blend into the fill are all linear, so
along one axis they are one banded matrix. Three banded matrix products in float64, block by block, replace three
filters and an interpolation, and keep no more than a few slices in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine, Grid, apply_affine, resample, smooth_for, spacing_of

PARALLEL_MM = 1e-3
"""Axes count as parallel to the grid's where no voxel lies farther off than this: below the precision of headers."""
SNAP = 1e-6
"""Positions this close to a voxel's centre, in voxels, are that voxel: rounding errors of the affine."""
BLOCK = 24
"""Outputs along an axis that share one product: enough for speed, few enough to skip most of the zeros."""
HELD = 1 << 18
"""About as many voxels are brought to float64 at a time: they fit into a core's cache."""


@dataclass(frozen=True)
class Axis:
    """One axis of a grid as seen by the volume's axis that runs parallel to it.

    Attributes:
        source: axis of the volume.
        start: position (in voxels of the volume) of the grid's first voxel.
        step: voxels of the volume per voxel of the grid, negative where it runs in the opposite direction.
    """

    source: int
    start: float
    step: float


def parallel_axes(affine: Affine, grid: Grid) -> tuple[Axis, Axis, Axis] | None:
    """For each axis of a grid the axis of a volume that is parallel to it; None where the axes are oblique.

    Args:
        affine: of the volume, voxel index to RAS mm.
        grid: any grid.
    """
    mapping = np.linalg.inv(affine) @ grid.affine
    linear = mapping[:3, :3]
    sources = np.abs(linear).argmax(axis=0)
    if len(set(sources.tolist())) < 3:
        return None
    along = np.zeros_like(linear)
    along[sources, range(3)] = linear[sources, range(3)]
    half = (np.asarray(grid.shape) - 1) / 2
    off = np.abs(linear - along) @ half * spacing_of(affine)
    if off.max() > PARALLEL_MM:
        return None
    start = mapping[:3, 3] + (linear - along) @ half  # the neglected part vanishes at the centre
    x, y, z = (Axis(int(s), float(start[s]), float(linear[s, axis])) for axis, s in enumerate(sources))
    return x, y, z


def onto_grid(array: NDArray[Any], affine: Affine, grid: Grid, *, fill: float, whole: bool) -> NDArray[Any]:
    """Low-pass a scan along the axes that get coarser, and interpolate it at the voxel centres of a grid.

    The outer half of the edge voxels belongs to the scan and has their value; the fill begins outside.

    Args:
        array: (i, j, k), axes closest to R, A, S, in any memory order; only the part that the grid touches is read.
        affine: of `array`, to RAS mm.
        grid: where to read, with axes R, A, S.
        fill: value outside the scan.
        whole: round to integers.

    Returns:
        (x, y, z) of the grid, int16 where `whole`, else float32.
    """
    axes = parallel_axes(affine, grid)
    if axes is None:
        image = _oblique(array, affine, grid, fill)
        return np.rint(image, out=image).astype(np.int16) if whole else image
    spacing = spacing_of(affine)
    matrices = []
    for axis, count, mm in zip(axes, grid.shape, grid.spacing_mm, strict=True):
        coarser = max(mm / spacing[axis.source], 1.0)
        sigma = np.sqrt(coarser**2 - 1) / 2.355 if coarser >= 1.2 else 0.0  # as geometry.smooth_for
        matrices.append(reading_matrix(array.shape[axis.source], count, axis.start, axis.step, float(sigma)))
    out = np.empty(grid.shape, np.int16 if whole else np.float32)
    multiply(array.transpose([axis.source for axis in axes]), matrices, out, fill=fill)
    return out


def reading_matrix(size: int, count: int, start: float, step: float, sigma: float) -> NDArray[np.float64]:
    """Low-pass and linear interpolation along one axis as a matrix.

    Args:
        size: voxels of the axis.
        count: positions that are read, at `start`, `start + step`, and so on, in voxels.
        start: the first position.
        step: between positions.
        sigma: of the Gaussian in voxels; 0 for none.

    Returns:
        (count, size) weights; the fill has the weight that a row lacks to a sum of 1.
    """
    position = start + step * np.arange(count)
    position = np.where(np.abs(position - np.rint(position)) < SNAP, np.rint(position), position)
    radius = int(4 * sigma + 0.5)
    reach = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2) if sigma else np.ones(1)
    kernel /= kernel.sum()
    matrix = np.zeros((count, size))
    lower = np.floor(position)
    for middle, weight in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
        seen = (middle >= -1) & (middle <= size) & (weight > 0)  # the outer voxels are repeated once
        rows = np.flatnonzero(seen)
        centre = np.clip(middle[seen], 0, size - 1).astype(int)
        taps = np.clip(centre[:, None] + reach, 0, size - 1)
        np.add.at(matrix, (rows[:, None], taps), weight[seen][:, None] * kernel)
    return matrix


class Banded:
    """A matrix as blocks of rows, each with the columns in which it has a weight.

    Attributes:
        matrix: (outputs, inputs).
        blocks: (rows, columns, weights), rows in order.
    """

    def __init__(self, matrix: NDArray[Any]) -> None:
        self.matrix = matrix
        self.blocks: list[tuple[slice, slice, NDArray[Any]]] = []
        for first in range(0, len(matrix), BLOCK):
            rows = slice(first, min(first + BLOCK, len(matrix)))
            used = np.flatnonzero(matrix[rows].any(axis=0))
            columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
            self.blocks.append((rows, columns, matrix[rows, columns]))


def multiply(
    array: NDArray[Any], matrices: list[NDArray[np.float64]], out: NDArray[Any], *, fill: float = 0.0, dtype: Any = None
) -> None:
    """Multiply a volume by a matrix along each axis.

    Args:
        array: (i, j, k), in any memory order.
        matrices: (x, i), (y, j), (z, k).
        out: (x, y, z), output array; integer types are rounded.
        fill: value for a row's missing weight.
        dtype: of the products; float64 where not given: rounding then gives the same voxels on every processor.
    """
    order = np.argsort([-abs(stride) for stride in array.strides], kind="stable")  # memory order
    array, out, turned = array.transpose(order), out.transpose(order), []
    for axis, matrix in enumerate(matrices[number] for number in order):
        before: tuple[Any, ...] = (slice(None),) * axis
        if array.strides[axis] < 0:  # reading forwards is quicker
            array, matrix = array[(*before, slice(None, None, -1))], matrix[:, ::-1]
        used = np.flatnonzero(matrix.any(axis=0))
        part = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        array = array[(*before, part)]
        turned.append(matrix[:, part].astype(dtype or np.float64, copy=False))
    shares = [matrix.sum(axis=1) for matrix in turned]
    blend = fill if any((np.abs(share - 1) > 1e-9).any() for share in shares) else 0.0
    inside = shares[1][:, None] * shares[2]
    for rows, plane in _slow_blocks(array, *(Banded(matrix) for matrix in turned)):
        if blend:
            plane += blend * (1 - shares[0][rows, None, None] * inside)
        if out.dtype.kind == "i":
            np.rint(plane, out=plane)
        out[rows] = plane


def _slow_blocks(
    array: NDArray[Any], slow: Banded, middle: Banded, fast: Banded
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Blocks of the result along the slow axis; slices that two blocks need are computed once."""
    shape = len(middle.matrix), len(fast.matrix)
    planes, first = np.empty((0, *shape), slow.matrix.dtype), 0  # `first` is the slice that planes[0] is
    for rows, columns, block in sorted(slow.blocks, key=lambda band: band[1].start):
        kept = planes[columns.start - first :]
        fresh = _planes(array[columns.start + len(kept) : columns.stop], middle, fast)
        planes, first = np.concatenate([kept, fresh]) if len(kept) else fresh, columns.start
        part = planes[: columns.stop - first].reshape(columns.stop - first, -1)
        yield rows, (block @ part).reshape(-1, *shape)


def _planes(array: NDArray[Any], middle: Banded, fast: Banded) -> NDArray[Any]:
    """The products along the middle and the fast axis, for all slices (s, m, f) of `array`."""
    dtype = fast.matrix.dtype
    out = np.empty((len(array), len(middle.matrix), len(fast.matrix)), dtype)
    step = max(HELD // max(array[:1].size, 1), 1)
    for first in range(0, len(array), step):
        part = array[first : first + step].astype(dtype, order="C")
        narrow = np.empty((*part.shape[:2], len(fast.matrix)), dtype)
        for rows, columns, block in fast.blocks:
            np.matmul(part[..., columns], block.T, out=narrow[..., rows])
        for rows, columns, block in middle.blocks:
            np.matmul(block, narrow[:, columns], out=out[first : first + step, rows])
    return out


def _oblique(array: NDArray[Any], affine: Affine, grid: Grid, fill: float) -> NDArray[np.float32]:
    """The same for axes that are not parallel; reads only the part that the grid touches."""
    spacing = spacing_of(affine)
    coarser = np.maximum(grid.spacing_mm / spacing, 1)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij")).reshape(3, -1).T
    index = apply_affine(np.linalg.inv(affine).astype(np.float64), grid.world(corners))
    reach = np.ceil(3 * coarser).astype(int) + 1
    start = np.clip(np.floor(index.min(axis=0)).astype(int) - reach, 0, array.shape)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1 + reach, 0, array.shape)
    part = array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, start)
    part = np.pad(smooth_for(part, spacing, grid.spacing_mm), 1, mode="edge")
    moved[:3, 3] = apply_affine(moved, np.array([-1, -1, -1]))
    return resample(part, moved, grid, order=1, fill=fill)
