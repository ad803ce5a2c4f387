"""A scan as the matcher's network reads it: channels at the matcher's own spacing, and where the body is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.body import find_body
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.preprocess import Prepared, prepare_array
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_case
from alice3d.geometry import Grid
from alice3d.io.read import read_scan
from alice3d.io.volume import Unoriented

Box = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class ScanInput:
    """What is embedded.

    Attributes:
        image: (c, x, y, z) float32, axes R, A, S.
        air: (c,) channel values outside the scan.
        body: (x, y, z) bool, True = body.
        grid: where the voxels lie.
        body_box_mm: low and high corner of the body, RAS mm.
        checksum: of the scan.
    """

    image: NDArray[np.float32]
    air: NDArray[np.float32]
    body: NDArray[np.bool_]
    grid: Grid
    body_box_mm: Box
    checksum: str

    @classmethod
    def of_case(cls, store: Store, case: Case, rule: IntensityRule, spacing_mm: Any) -> ScanInput:
        """A stored scan, resampled where the store's spacing is another."""
        image, grid = read_case(store, case, rule, spacing_mm)
        body = _body(store.image(case.id)[:, :, :], case.grid, rule, grid)
        return cls(image, rule.air(case.stats), body, grid, case.body_box_mm, case.checksum)

    @classmethod
    def of_prepared(cls, scan: Prepared, rule: IntensityRule) -> ScanInput:
        """A scan that `prepare_array` brought to the matcher's spacing."""
        body = _body(scan.image, scan.grid, rule, scan.grid)
        image = rule(scan.image, scan.stats)
        return cls(image, rule.air(scan.stats), body, scan.grid, scan.body_box_mm, scan.checksum)

    @classmethod
    def of_file(
        cls, path: str | Path, rule: IntensityRule, spacing_mm: Any, *, unoriented: Unoriented = "refuse"
    ) -> ScanInput:
        """A file, brought along the same road as a store's scans.

        Raises:
            ScanError: unreadable, or no scan of the rule's modality.
        """
        volume = read_scan(path, unoriented=unoriented)
        prepared = prepare_array(volume, spacing_mm=spacing_mm, modality=rule.modality, name=Path(path).name)
        return cls.of_prepared(prepared, rule)

    def laid_out(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> ScanInput:
        """The same scan in a larger array: voxels of air before and after it along x, y and z; the world stays."""
        ends = list(zip(before, after, strict=True))
        image = np.stack(
            [np.pad(c, ends, constant_values=value) for c, value in zip(self.image, self.air, strict=True)]
        )
        start = -np.array(before)
        grid = self.grid.crop(start, start + np.array(image.shape[1:]))
        return replace(self, image=image, body=np.pad(self.body, ends), grid=grid, checksum="")

    def cropped(self, start: NDArray[Any], stop: NDArray[Any]) -> ScanInput:
        """The voxels start <= index < stop, each (3,), as if the scanner had seen no more; the world stays."""
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        body, grid = np.ascontiguousarray(self.body[box]), self.grid.crop(start, stop)
        inside = np.argwhere(body) if body.any() else np.zeros((1, 3))
        low, high = (
            tuple(corner) for corner in (grid.world(inside.min(axis=0) - 0.5), grid.world(inside.max(axis=0) + 0.5))
        )
        image = np.ascontiguousarray(self.image[:, *box])
        return replace(self, image=image, body=body, grid=grid, body_box_mm=(low, high), checksum="")

    def mirrored(self) -> ScanInput:
        """The left-right mirror image on the same grid: what was at x stands at 2 · centre - x."""
        image = np.ascontiguousarray(self.image[:, ::-1])
        return replace(self, image=image, body=np.ascontiguousarray(self.body[::-1]), checksum="")


def _body(raw: NDArray[Any], stored: Grid, rule: IntensityRule, grid: Grid) -> NDArray[np.bool_]:
    """The body's voxels on a grid; all where no body stands out, as in crops within a body."""
    body = find_body(raw, stored.affine, rule.modality)
    return np.ones(grid.shape, bool) if body is None else body.on(grid)
