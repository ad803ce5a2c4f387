"""Fills the contours of a DICOM structure set on the voxels of the series on which they were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PLANE = 1e-2
"""Contours whose heights differ by less than this fraction of a slice lie in one plane."""
LEVEL = 0.1
"""A contour that rises by more than this fraction of a slice does not lie in a slice."""


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside an odd number of closed polygons, so that a contour in a contour is a hole.

    Args:
        polygons: each (n, 2), in pixels; 0 is the centre of the first.
        shape: of the plane.

    Returns:
        (shape) True = inside.
    """
    starts = np.concatenate([np.asarray(polygon).round(6) for polygon in polygons])
    ends = np.concatenate([np.roll(np.asarray(polygon).round(6), -1, axis=0) for polygon in polygons])
    low, high = (f(starts[:, 1], ends[:, 1]) for f in (np.minimum, np.maximum))
    first = np.clip(np.ceil(low), 0, shape[1]).astype(int)
    count = np.clip(np.ceil(high), 0, shape[1]).astype(int) - first  # an edge includes its lower end, not its upper one
    edge = np.repeat(np.arange(len(starts)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    share = (row - starts[edge, 1]) / (ends[edge, 1] - starts[edge, 1])
    crossing = starts[edge, 0] + share * (ends[edge, 0] - starts[edge, 0])
    switches = np.zeros((shape[0] + 1, shape[1]), np.int32)
    np.add.at(switches, (np.clip(np.ceil(crossing.round(6)), 0, shape[0]).astype(int), row), 1)
    inside: NDArray[np.bool_] = np.cumsum(switches, axis=0)[:-1] % 2 == 1
    return inside


def fill_structure(
    contours: Sequence[NDArray[np.float64]], shape: tuple[int, int, int]
) -> tuple[NDArray[np.bool_], str, bool]:
    """A structure from its contours.

    Each slice takes the plane of contours nearest to it. Where contours were drawn on every second or third slice
    only, the slices between two of them take the contours of the nearer one.

    Args:
        contours: closed, each (n, 3) voxel indices (i, j, k).
        shape: of the series, slices last.

    Returns:
        (i, j, k) True = inside; a fault, "" where there is none; and whether it reaches beyond the first or last slice.
    """
    mask = np.zeros(shape, np.bool_)
    heights = np.array([contour[:, 2].mean() for contour in contours])
    if max(float(np.ptp(contour[:, 2])) for contour in contours) > LEVEL:
        return mask, "its contours do not lie in the slices of the scan", False
    order = np.argsort(heights)
    heights = heights[order]
    plane_of = np.concatenate([[0], np.cumsum(np.diff(heights) > PLANE)])
    planes = np.array([heights[plane_of == n].mean() for n in range(int(plane_of[-1]) + 1)])
    outside = (planes < -0.5) | (planes > shape[2] - 0.5)
    points = np.concatenate(contours)[:, :2]
    beside = ((points < -0.5) | (points > np.array(shape[:2]) - 0.5)).any(axis=1)
    if outside.all() or beside.all():
        return mask, "its contours lie outside the scan", False
    for k, plane in _plane_of_slices(planes, shape[2]):
        polygons = [contours[order[n]][:, :2] for n in np.flatnonzero(plane_of == plane)]
        mask[:, :, k] = filled(polygons, shape[:2])
    return mask, "", bool(outside.any())


def _plane_of_slices(planes: NDArray[np.float64], slices: int) -> list[tuple[int, int]]:
    """(slice, plane) pairs: planes (n,) at ascending heights, in slices."""
    usual = max(float(np.median(np.diff(planes))) if len(planes) > 1 else 1.0, 1.0)
    found = []
    for k in range(slices):
        nearest = int(np.argmin(np.abs(planes - k)))
        above = int(np.searchsorted(planes, k))
        between = 0 < above < len(planes) and planes[above] - planes[above - 1] <= 1.5 * usual
        if abs(planes[nearest] - k) <= 0.5 or between:
            found.append((k, nearest))
    return found
