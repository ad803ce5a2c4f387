"""Class probabilities to the most probable class at the voxels of another grid: a scan's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Grid, low_pass_reach, resample, smooth_for, spacing_along

# Shape suffixes: k classes (0 is background), xyz voxels.

Box = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First voxel and the one after the last, each (3,)."""


@dataclass(frozen=True)
class Reach:
    """Where a class can be the most probable one.

    Attributes:
        source: box of its probabilities that is read.
        target: box of the output's grid.
    """

    source: Box
    target: Box


def classes_on_grid(probabilities_kxyz: NDArray[np.float32], grid: Grid, target: Grid) -> NDArray[np.int16]:
    """The most probable class at each voxel of another grid; probabilities are interpolated linearly, class by class.

    The most probable class has at least 1/k, and low-pass and interpolation never exceed their inputs: a class is
    computed only in the box where it can reach half of that, background in the box of all of them; the rest is
    background. The result is that of computing every class everywhere. Outside `grid` all is background.

    Args:
        probabilities_kxyz: (k, x, y, z), class 0 is background; classes sum to 1.
        grid: of the probabilities.
        target: grid of the output.

    Returns:
        (x, y, z) of `target`, class indices; of equally probable classes the first.
    """
    result = np.zeros(target.shape, np.int16)
    if grid.shape == target.shape and np.allclose(grid.affine, target.affine, atol=1e-4):
        result[...] = probabilities_kxyz.argmax(axis=0)
        return result
    along_mm = spacing_along(grid.affine, target)
    reaches = dict(_reaches(probabilities_kxyz, grid, target, along_mm))
    if not reaches:
        return result
    every = Reach(_hull([one.source for one in reaches.values()]), _hull([one.target for one in reaches.values()]))

    def read(k: int, reach: Reach) -> NDArray[np.float32]:
        smooth = smooth_for(probabilities_kxyz[k][_slices(reach.source)], grid.spacing_mm, along_mm)
        part = grid.crop(*reach.source)
        values: NDArray[np.float32] = resample(
            smooth, part.affine, target.crop(*reach.target), order=1, fill=0.0 if k else 1.0
        )
        return values

    best_xyz = read(0, every)
    for k, reach in reaches.items():
        values = read(k, reach)
        start = every.target[0]
        best = best_xyz[_slices((reach.target[0] - start, reach.target[1] - start))]
        better = values > best
        best[better] = values[better]
        result[_slices(reach.target)][better] = k
    return result


def _reaches(
    probabilities_kxyz: NDArray[np.float32], grid: Grid, target: Grid, along_mm: NDArray[np.float64]
) -> Iterator[tuple[int, Reach]]:
    """The classes that can be the most probable one on the grid `target`, and where."""
    enough = 0.5 / len(probabilities_kxyz)
    low_pass = low_pass_reach(grid.spacing_mm, along_mm)
    for k, probability in enumerate(probabilities_kxyz[1:], start=1):
        box = _extent(probability > enough)
        if box is None:
            continue
        # Beyond these voxels low-passed and interpolated values read none that is high enough.
        low, high = box[0] - low_pass - 1, box[1] - 1 + low_pass + 1
        index = target.index(grid.world(np.array(list(itertools.product(*zip(low, high, strict=True))))))
        start = np.clip(np.floor(index.min(axis=0)).astype(np.int64), 0, target.shape)
        stop = np.clip(np.ceil(index.max(axis=0)).astype(np.int64) + 1, 0, target.shape)
        if (start >= stop).any():
            continue
        # Up to there low-passed values are exact; further out they are too low to matter, whatever is read.
        source = (np.maximum(low - low_pass, 0), np.minimum(high + 1 + low_pass, grid.shape))
        yield k, Reach(source, (start, stop))


def _extent(mask_xyz: NDArray[np.bool_]) -> Box | None:
    """The bounding box of the True voxels; None where there is none."""
    lines = [np.flatnonzero(mask_xyz.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(lines[0]):
        return None
    return np.array([line[0] for line in lines]), np.array([line[-1] + 1 for line in lines])


def _hull(boxes: list[Box]) -> Box:
    """The smallest box that contains all."""
    return np.min([start for start, _ in boxes], axis=0), np.max([stop for _, stop in boxes], axis=0)


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(*box, strict=True))
