"""Preprocessing of one scan: axes to RAS, crop to the body, resample; the same for a store and for prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.body import Body, find_body
from alice3d.data.preprocessing.intensity import AIR_HU
from alice3d.data.preprocessing.modality import check_modality
from alice3d.data.preprocessing.resampling import onto_grid
from alice3d.geometry import Affine, Grid, apply_affine, ras_grid, to_closest_ras
from alice3d.io.volume import MAX_VOXELS, ScanError, Volume, content_checksum, voxels_checksum

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Low and high corner, RAS mm."""
MARGIN_MM = 8.0
"""Margin around the body, and at least two voxels."""


@dataclass(frozen=True)
class Prepared:
    """A scan on a grid with axes R, A, S.

    Attributes:
        image: (x, y, z) int16 where the scan holds integer Hounsfield units, else float32; the scanner's values.
        grid: its grid.
        body_box_mm: low and high corner of the body, RAS mm.
        stats: `mean`, `std`, `p005`, `p995` of the body's voxels; `min`, `max` of all.
        checksum: SHA-256 of `image` and the affine.
        content: SHA-256 of the scan's own voxels.
        notes: remarks and repairs.
    """

    image: NDArray[Any]
    grid: Grid
    body_box_mm: Box
    stats: dict[str, float]
    checksum: str
    content: str
    notes: tuple[str, ...] = ()


def prepare_array(
    volume: Volume,
    *,
    spacing_mm: Any,
    modality: Literal["ct", "mr"],
    crop: Literal["body", "none"] = "body",
    keep_mm: Box | None = None,
    modality_given: bool = True,
    modality_overrides: bool = False,
    name: str = "scan",
) -> Prepared:
    """Bring one scan onto a grid with axes R, A, S.

    Args:
        volume: as `read_scan` returns it, any orientation.
        spacing_mm: (3,) along R, A, S, or one number.
        modality: ct or mr.
        crop: `body` crops to the bounding box of the body and a margin; `none` keeps the whole field of view.
        keep_mm: a box that the crop must contain as well: the extent of a label.
        modality_given: the modality was stated by the user, not guessed; see `check_modality`.
        modality_overrides: the user stated it of this very scan: what its header says does not count.
        name: for messages.

    Raises:
        ScanError: a label map, a scan of another modality, a CT that is not in HU, or a grid too large for memory.
    """
    array, affine = to_closest_ras(volume.array, volume.affine)
    check_modality(volume, modality, name, given=modality_given, overrides=modality_overrides)
    body = find_body(array, affine, modality)
    full = ras_grid(array.shape, affine, spacing_mm)
    grid = full if body is None or crop == "none" else _cropped(full, body, keep_mm)
    if np.prod([float(n) for n in grid.shape]) > MAX_VOXELS:
        shown = " x ".join(map(str, grid.shape))
        raise ScanError(name, f"too large at this spacing: {shown} voxels; choose a coarser --spacing")
    fill = AIR_HU if modality == "ct" else float(volume.array.min())
    image = onto_grid(array, affine, grid, fill=fill, whole=modality == "ct" and _whole(volume.array))
    inside = np.ones(grid.shape, bool) if body is None else body.on(grid)
    if not inside.any():
        inside[...] = True
    notes = volume.notes
    if body is None:
        notes = (*notes, "no body found, the whole scan is kept")
    return Prepared(
        image=image,
        grid=grid,
        body_box_mm=_box(grid, inside),
        stats=_stats(image, inside),
        checksum=voxels_checksum(image, grid.affine),
        content=content_checksum(array),
        notes=notes,
    )


def _whole(array: NDArray[Any]) -> bool:
    """Whether all values are integers that fit into int16."""
    if array.min() < -32768 or array.max() > 32767:
        return False
    return array.dtype.kind in "iu" or bool((array == np.rint(array)).all())


def _cropped(full: Grid, body: Body, keep_mm: Box | None) -> Grid:
    """The part of a grid that contains the body and a margin, and `keep_mm`."""
    low, high = body.box_mm()
    margin = np.maximum(MARGIN_MM, 2 * full.spacing_mm)
    low, high = low - margin, high + margin
    if keep_mm is not None:
        low, high = np.minimum(low, keep_mm[0]), np.maximum(high, keep_mm[1])
    start = np.clip(np.floor(full.index(low) + 0.5).astype(int), 0, np.asarray(full.shape) - 1)
    stop = np.clip(np.ceil(full.index(high) + 0.5).astype(int), start + 1, full.shape)
    return full.crop(start, stop)


def _box(grid: Grid, inside: NDArray[np.bool_]) -> Box:
    """RAS mm corners of the bounding box of the True voxels, outer faces included."""
    ends = []
    for axis in range(3):
        line = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((line[0] - 0.5, line[-1] + 0.5))
    low, high = (grid.world(np.array([end[side] for end in ends])) for side in (0, 1))
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def _stats(image: NDArray[Any], inside: NDArray[np.bool_]) -> dict[str, float]:
    values = image[inside].astype(np.float32)
    p005, p995 = np.percentile(values, (0.5, 99.5))
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "std": float(values.std(dtype=np.float64)),
        "p005": float(p005),
        "p995": float(p995),
        "min": float(image.min()),
        "max": float(image.max()),
    }


def extent_mm(label: NDArray[Any], affine: Affine) -> Box | None:
    """RAS mm corners of the bounding box of all structures of a label (i, j, k); None where it is empty."""
    label = label if label.dtype.kind == "u" else label > 0
    lines = [np.flatnonzero(label.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(lines[0]):
        return None
    corners = np.array(np.meshgrid(*[(line[0] - 0.5, line[-1] + 0.5) for line in lines], indexing="ij"))
    world = apply_affine(affine, corners.reshape(3, -1).T)
    low, high = world.min(axis=0), world.max(axis=0)
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))
