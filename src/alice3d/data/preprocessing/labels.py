"""Label maps for a store: declared classes only, resampled so that no class is invented or lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine, Grid, apply_affine, resample, smooth_for, spacing_of
from alice3d.io.volume import ScanError

IGNORED = -1
"""Value of voxels without a reference, such as nnU-Net's `ignore`: in no structure, and not background."""


def with_ignored(label: NDArray[Any], value: int) -> NDArray[Any]:
    """A label map whose voxels of `value` are `IGNORED`; int16, or the same where there is none."""
    inside = label == value
    if not inside.any():
        return label
    result: NDArray[Any] = label.astype(np.int16)
    result[inside] = IGNORED
    return result


def structures_of(label: NDArray[Any]) -> tuple[int, ...]:
    """The values of structures that occur, ascending: neither background nor `IGNORED`."""
    flat = label.ravel()
    counts = np.bincount(flat if label.dtype.kind == "u" else flat[flat > 0])
    return tuple(int(value) for value in np.flatnonzero(counts) if value)


def check_classes(values: NDArray[Any], names: Mapping[int, str], name: str) -> None:
    """Refuse values that were not declared; without declared classes all values are allowed.

    Raises:
        ScanError: naming the values.
    """
    unknown = [int(value) for value in values if value and int(value) not in names]
    if names and unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise ScanError(name, f"value outside the declared classes: {shown}")


def resample_labels(label: NDArray[Any], affine: Affine, grid: Grid) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels on another grid: each class is resampled like an image, and a voxel gets the class with the largest
    fraction.

    No value is invented. A structure too small to get any voxel keeps the one at its centre.

    Args:
        label: (i, j, k) values.
        affine: of `label`, to RAS mm.
        grid: where labels are wanted, with axes R, A, S.

    Returns:
        (x, y, z) of the grid and the input's type; notes on structures that were kept as one voxel or lie outside.
    """
    if label.shape == grid.shape and np.allclose(affine, grid.affine, atol=1e-5):
        return np.ascontiguousarray(label), ()
    result = np.zeros(grid.shape, label.dtype)
    best = np.full(grid.shape, 0.5, np.float32)  # background where no class, nor all of them together, has half
    others = np.zeros(grid.shape, np.float32)
    margin = np.ceil(3 * np.maximum(grid.spacing_mm / spacing_of(affine), 1)).astype(int) + 1
    present = [*structures_of(label), *([IGNORED] if label.dtype.kind == "i" and (label == IGNORED).any() else [])]
    shares: list[tuple[int, tuple[slice, ...], NDArray[np.float32]]] = []
    for value in present:
        box, share = _share(label, affine, grid, value, margin)
        if share is not None:
            shares.append((value, box, share))
            others[box] += share
    best[...] = 1 - others  # the rest is the background's fraction
    np.clip(best, 0, None, out=best)
    for value, box, share in shares:
        wins = share > best[box]
        best[box][wins] = share[wins]
        result[box][wins] = value
    return result, tuple(_keep_lost(result, label, affine, grid, present))


def _share(
    label: NDArray[Any], affine: Affine, grid: Grid, value: int, margin: NDArray[Any]
) -> tuple[tuple[slice, ...], NDArray[np.float32] | None]:
    """A class's fraction (0 to 1) of each voxel in the box of the grid that it can reach."""
    inside = np.argwhere(label == value)
    start = np.clip(inside.min(axis=0) - margin, 0, label.shape)
    stop = np.clip(inside.max(axis=0) + 1 + margin, 0, label.shape)
    corners = np.array(np.meshgrid(*zip(start - 0.5, stop - 0.5, strict=True), indexing="ij")).reshape(3, -1).T
    index = grid.index(apply_affine(affine, corners))
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, grid.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, grid.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    if (low >= high).any():
        return box, None
    piece = (label[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == value).astype(np.float32)
    piece = smooth_for(piece, spacing_of(affine), grid.spacing_mm)
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, start)
    return box, resample(piece, moved, grid.crop(low, high), order=1, fill=0.0)


def _keep_lost(result: NDArray[Any], label: NDArray[Any], affine: Affine, grid: Grid, present: list[int]) -> list[str]:
    """Give each structure without a voxel the one at its centre; report those that lie outside."""
    notes = []
    kept = {*structures_of(result), IGNORED}
    for value in present:
        if value in kept:
            continue
        voxels = np.argwhere(label == value)
        middle = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        place = np.round(grid.index(apply_affine(affine, middle))).astype(int)
        if ((place < 0) | (place >= grid.shape)).any():
            notes.append(f"structure {value} lies outside the stored box")
        elif result[tuple(place)]:
            notes.append(f"structure {value} is smaller than a voxel and lost to {int(result[tuple(place)])}")
        else:
            result[tuple(place)] = value
            notes.append(f"structure {value} is smaller than a voxel, kept as one")
    return notes
