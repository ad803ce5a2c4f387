"""Read any grid in space from a store: crops, rotated views, whole scans at another spacing."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.intensity import IntensityRule, parse_windows
from alice3d.data.store.store import Case, Store
from alice3d.errors import UserError
from alice3d.geometry import Grid, ras_grid, resample, smooth_for, spacing_along


class Images(Protocol):
    """Source of a case's voxels: a store, or a scan in memory."""

    def image(self, id: str) -> Any:
        """The voxels of a case; any object that returns a box of voxels by slicing."""
        ...


def _needed_box(case: Case, grid: Grid, margin: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Start and stop of the stored voxels that reading `grid` touches, clipped; empty where start >= stop."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    index = case.grid.index(grid.world(corners))
    start = np.clip(np.floor(index.min(axis=0)).astype(int) - margin, 0, case.shape)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1 + margin, 0, case.shape)
    return start, stop


def _read(handle: Any, start: NDArray[Any], stop: NDArray[Any]) -> NDArray[Any]:
    box: NDArray[Any] = handle[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    return box


def read_grid(store: Images, case: Case, grid: Grid, rule: IntensityRule) -> NDArray[np.float32]:
    """Channels of a case at the voxel centres of `grid`.

    Only the box that is needed is read. Along the stored axes that the grid samples more coarsely (`spacing_along`) it
    is low-passed first, as preprocessing does with a file; voxels outside the stored array get the rule's fill value.

    Args:
        grid: any position, orientation and spacing, in RAS mm.

    Returns:
        (c, x, y, z) float32.
    """
    fill = rule.fill(case.stats)
    along_mm = spacing_along(case.grid.affine, grid)
    coarser = np.maximum(along_mm / case.grid.spacing_mm, 1)
    start, stop = _needed_box(case, grid, margin=int(np.ceil(2 * coarser.max())))  # `low_pass_reach` is less
    if (start >= stop).any():
        return rule(np.full(grid.shape, fill, np.float32), case.stats)
    box = _read(store.image(case.id), start, stop)
    box = smooth_for(box, case.grid.spacing_mm, along_mm)
    values = resample(box, case.grid.crop(start, stop).affine, grid, order=1, fill=fill)
    return rule(values, case.stats)


def read_label_grid(store: Store, case: Case, grid: Grid) -> NDArray[np.int16]:
    """Labels (x, y, z) of a case at the voxel centres of `grid`, nearest voxel; 0 outside the stored array."""
    start, stop = _needed_box(case, grid, margin=1)
    if (start >= stop).any():
        return np.zeros(grid.shape, np.int16)
    box = _read(store.label(case.id), start, stop)
    return resample(box, case.grid.crop(start, stop).affine, grid, order=0).astype(np.int16)


def case_grid(case: Case, spacing_mm: Any = None) -> Grid:
    """The grid of a whole stored case, at its own or at another spacing in mm."""
    if spacing_mm is None or np.allclose(np.broadcast_to(spacing_mm, 3), case.grid.spacing_mm, rtol=1e-3):
        return case.grid
    return ras_grid(case.shape, case.grid.affine, spacing_mm)


def read_case(
    store: Store, case: Case, rule: IntensityRule, spacing_mm: Any = None
) -> tuple[NDArray[np.float32], Grid]:
    """A whole case as channels (c, x, y, z) and its grid.

    Raises:
        UserError: the rule reads another modality than the store holds.
    """
    if rule.modality != store.spec.modality:
        held, read = (one.upper() for one in (store.spec.modality, rule.modality))
        raise UserError(f"{store.path}: holds {held} scans; the model or matcher reads {read}")
    grid = case_grid(case, spacing_mm)
    if grid is case.grid:
        return rule(store.image(case.id)[:, :, :], case.stats), grid
    return read_grid(store, case, grid, rule), grid


def intensity_rule(store: Store, windows: str) -> IntensityRule:
    """The rule for a store's modality, with windows as `intensity.parse_windows` reads them.

    Raises:
        UserError: not of that form.
    """
    if store.spec.modality != "ct":
        return IntensityRule(modality="mr", windows=())
    return IntensityRule(modality="ct", windows=parse_windows(windows))
