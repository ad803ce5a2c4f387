"""Whether a label map lies on its scan: on its grid, on a part of it, or on a finer one."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine, apply_affine, closest_axes, spacing_of, to_closest_ras, turned_by
from alice3d.io.volume import ScanError

SAME_PLACE = 0.1
"""A label lies on its scan's voxels if no corner is farther off than this fraction of a voxel."""


class Fitted(NamedTuple):
    """A label map on its scan.

    Attributes:
        label: (i, j, k), axes closest to R, A, S.
        affine: voxel index to RAS mm.
        note: what was done to it; "" where it is on its scan's grid.
    """

    label: NDArray[Any]
    affine: Affine
    note: str = ""


def onto_scan(label: NDArray[Any], label_affine: Affine, shape: tuple[int, ...], affine: Affine, name: str) -> Fitted:
    """Bring a label map to the axes of its scan, and check that its voxels lie on the scan's.

    A map of a part of the scan's voxels is padded with background; one that covers more may hold nothing outside. A map
    on a finer grid, a whole number of voxels to each of the scan's, stays on it.

    Args:
        label: (i, j, k) values.
        label_affine: voxel index to RAS mm.
        shape: of the scan.
        affine: of the scan.
        name: of the label, for messages.

    Raises:
        ScanError: on another grid, beside its scan, or with structures outside it.
    """
    scan_order, scan_signs = closest_axes(affine)
    relative = np.asarray(np.linalg.inv(affine) @ label_affine, np.float64)
    order, signs = closest_axes(relative)  # of the label along the scan's own axes: at 45 degrees both could turn apart
    aligned, placed = turned_by(label, relative, order, signs)  # `placed`: aligned index to the scan's index
    a, b, c = scan_order
    total = (signs[a] * scan_signs[0], signs[b] * scan_signs[1], signs[c] * scan_signs[2])
    turned, turned_affine = turned_by(label, label_affine, (order[a], order[b], order[c]), total)
    finer = np.maximum(np.rint(1 / spacing_of(placed)), 1)
    if _off_mm(aligned.shape, placed, finer, affine) <= SAME_PLACE * (spacing_of(affine) / finer).min():
        start = np.rint((placed[:3, 3] + 0.5) * finer - 0.5).astype(int)  # in voxels of the label's size
        stop = start + aligned.shape
        if finer.max() == 1 and aligned.shape == tuple(shape) and not start.any():
            return Fitted(turned, turned_affine)
        inside = (start >= 0).all() and (stop <= np.asarray(shape) * finer).all()
        around = (start <= 0).all() and (stop >= np.asarray(shape) * finer).all()
        if finer.max() > 1 and inside:
            size = " x ".join(f"{int(n)}" for n in finer[list(scan_order)])
            return Fitted(turned, turned_affine, f"the label has {size} voxels to each of its scan's")
        if finer.max() == 1 and (inside or around) and aligned.shape != tuple(shape):
            return _padded(aligned, start, shape, affine, name)
    wanted, wanted_affine = to_closest_ras(np.broadcast_to(np.uint8(0), shape), affine)
    if turned.shape != wanted.shape:
        ours, theirs = ("x".join(map(str, s)) for s in (turned.shape, wanted.shape))
        raise ScanError(name, f"on another grid: {ours} voxels along R, A, S, its scan has {theirs}")
    apart = np.abs(apply_affine(turned_affine, _corners(shape)) - apply_affine(wanted_affine, _corners(shape)))
    raise ScanError(name, f"on another grid: it lies up to {np.linalg.norm(apart, axis=1).max():.2f} mm off its scan")


def _corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Index (8, 3) of the outermost voxels."""
    return np.array(list(itertools.product(*[(0, n - 1) for n in shape])), np.float64)


def _off_mm(shape: tuple[int, ...], placed: Affine, finer: NDArray[np.float64], affine: Affine) -> float:
    """How far the corners of a label lie from the nearest grid of `finer` voxels to each of the scan's, whose outer
    faces are the scan's."""
    start = np.rint((placed[:3, 3] + 0.5) * finer - 0.5)
    nearest = (_corners(shape) + start + 0.5) / finer - 0.5
    apart = (apply_affine(placed, _corners(shape)) - nearest) @ affine[:3, :3].T
    return float(np.linalg.norm(apart, axis=1).max())


def _padded(label: NDArray[Any], start: NDArray[np.int64], shape: tuple[int, ...], affine: Affine, name: str) -> Fitted:
    """A label that covers a part of its scan, or more, on the scan's grid.

    Raises:
        ScanError: structures outside the scan.
    """
    low, high = np.maximum(start, 0), np.minimum(start + label.shape, shape)
    here = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    there = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
    lost = int(np.count_nonzero(label)) - int(np.count_nonzero(label[there]))
    if lost:
        raise ScanError(name, f"on another grid: {lost:,} of its voxels lie outside its scan")
    whole = np.zeros(shape, label.dtype)
    whole[here] = label[there]
    covers = " x ".join(map(str, label.shape))
    return Fitted(*to_closest_ras(whole, affine), f"the label covers {covers} voxels of its scan's, the rest is 0")
