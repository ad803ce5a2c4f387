"""Propagates the labels of labelled scans to another scan through the maps between them, by weighted voting."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.data.pairs.correspondence import Correspondence
from alice3d.data.sources.scan_list import ScanList
from alice3d.errors import UserError
from alice3d.geometry import Grid, apply_affine
from alice3d.io.volume import ScanError
from alice3d.io.write import write_label
from alice3d.matching.batch import embed_scan
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher
from alice3d.memory import within_memory

VOTE = 0.3
"""Fraction of the votes that a voxel of a structure needs. Maps with errors of some mm spread the votes, and a
majority vote shrinks structures: mean Dice on development cases by five scans 0.56 at 0.5, 0.62 at 0.4, 0.65 at 0.3,
0.64 at 0.2 (4 mm, four structures of 0.1 to 0.3 % of a scan)."""
MARGIN_MM = 6.0
"""Margin around the predicted position of a structure."""
OUTLINE = 1500
"""Voxels of a structure that are mapped to find that position."""
SLAB_VOXELS = 2_000_000
"""Voxels processed at once."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan.

    Attributes:
        scan: its embedding.
        labels: (i, j, k) label values, 0 is background; a structure that does not occur was not contoured.
        grid: of the labels; any orientation and spacing.
    """

    scan: EmbeddedScan
    labels: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.labels.shape != self.grid.shape:
            raise UserError(f"atlas: labels have shape {self.labels.shape}, their grid {self.grid.shape}")

    @cached_property
    def boxes(self) -> dict[int, tuple[slice, ...]]:
        """Label values that occur, and the bounding box of each."""
        found = ndimage.find_objects(self.labels.astype(np.int32, copy=False))
        return {value: box for value, box in enumerate(found, 1) if box is not None}

    def cropped(self) -> Atlas:
        """The same with only the box of its labels in memory."""
        if not self.boxes:
            return self
        low = np.min([[side.start for side in box] for box in self.boxes.values()], axis=0)
        high = np.max([[side.stop for side in box] for box in self.boxes.values()], axis=0)
        kept = self.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
        return Atlas(self.scan, kept, self.grid.crop(low, high))


@dataclass(frozen=True)
class Propagated:
    """Labels propagated to a scan.

    Attributes:
        labels: (i, j, k) int16 on the wanted grid.
        certainty: structure to 0 .. 1, the maps' mean certainty where it was found; structures not found are left out.
        agreement: inlier fraction of each atlas: of matches all over the body that agree on one map; 0: no map, left
            out.
    """

    labels: NDArray[np.int16]
    certainty: dict[int, float]
    agreement: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Mapped:
    """An atlas and the map from the target to it."""

    atlas: Atlas
    map: Correspondence
    weight: float

    def place(self, value: int) -> NDArray[np.float64]:
        """Points (n, 3) RAS mm of the target where the map predicts a structure."""
        box = self.atlas.boxes[value]
        voxels = np.argwhere(self.atlas.labels[box] == value) + [side.start for side in box]
        corners = np.array(list(itertools.product(*((side.start, side.stop - 1) for side in box))))
        chosen = np.concatenate([voxels[:: max(len(voxels) // OUTLINE, 1)], corners])
        there = self.atlas.grid.world(chosen)
        back = np.linalg.inv(self.map.affine).astype(np.float64)
        here = apply_affine(back, there)
        for _ in range(8):  # the field is smooth: a fixed point of x = affine⁻¹(y - field(x))
            here = apply_affine(back, there - self.map.map(here) + apply_affine(self.map.affine, here))
        return here


def carry_labels(
    matcher: Matcher, atlases: Sequence[Atlas], target: EmbeddedScan, grid: Grid, *, vote: float = VOTE
) -> Propagated:
    """Label a scan by propagating the labels of others.

    Each atlas votes for a structure at a voxel with the certainty of its map there; atlases in which the structure was
    not contoured do not vote on it. Where `vote` of the weight agrees, the voxel belongs to it.

    Args:
        matcher: of the embeddings.
        atlases: one or more labelled scans.
        target: the scan to label.
        grid: of the output labels, usually the scan's own voxels; any orientation.
        vote: fraction of the votes that a voxel needs, above 0 up to 1.

    Raises:
        UserError: no atlas, or none whose map to the scan can be fitted: another part of the body, for example.
    """
    if not atlases:
        raise UserError("no labelled scan is given")
    agreement, mapped = [], []
    for atlas in atlases:
        fit = matcher.fit(target, atlas.scan)
        agreement.append(fit.agreement if fit.correspondence is not None else 0.0)
        if fit.correspondence is not None:
            mapped.append(_Mapped(atlas, fit.correspondence, agreement[-1]))
    if not mapped:
        raise UserError("no labelled scan shows the same anatomy: too few matches agree on a map between them")
    labels = np.zeros(grid.shape, np.int16)
    best = np.zeros(grid.shape, np.float32)
    certainty: dict[int, tuple[float, int]] = {}
    for value in sorted({value for atlas in atlases for value in atlas.boxes}):
        voters = [one for one in mapped if value in one.atlas.boxes]
        if not voters:
            continue
        certain, count = 0.0, 0
        for box, part in _slabs(grid, np.concatenate([one.place(value) for one in voters])):
            share, sure = _votes(voters, value, part)
            won = (share >= vote) & (share > best[box])
            labels[box][won] = value
            best[box][won] = share[won]
            certain, count = certain + float(sure[won].sum()), count + int(won.sum())
        if count:
            certainty[value] = (certain, count)
    return Propagated(labels, {value: a / n for value, (a, n) in certainty.items()}, tuple(agreement))


def _slabs(grid: Grid, points_mm: NDArray[np.float64]) -> Iterator[tuple[tuple[slice, ...], Grid]]:
    """The box of a grid around points (n, 3), in slabs: as slices of the array, and as grids."""
    margin = MARGIN_MM / grid.spacing_mm
    index = grid.index(points_mm)
    start = np.clip(np.floor(index.min(axis=0) - margin).astype(int), 0, grid.shape)
    stop = np.clip(np.ceil(index.max(axis=0) + margin).astype(int) + 1, 0, grid.shape)
    if (start >= stop).any():
        return
    thick = max(SLAB_VOXELS // int(np.prod((stop - start)[1:])), 1)
    for first in range(int(start[0]), int(stop[0]), thick):
        low = np.array([first, start[1], start[2]])
        high = np.array([min(first + thick, int(stop[0])), stop[1], stop[2]])
        yield tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), grid.crop(low, high)


def _votes(voters: Sequence[_Mapped], value: int, part: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fraction of the weight (x, y, z) that votes for a structure, and the voters' mean certainty."""
    votes, total, sure = (np.zeros(part.shape, np.float32) for _ in range(3))
    for one in voters:
        certain = _on(part, one.map.lattice, one.map.lattice_certainty)
        weight = one.weight * np.maximum(certain, 1e-3)
        votes += weight * _carried(one, value, part)
        total += weight
        sure += certain / len(voters)
    return votes / total, sure


def _on(part: Grid, lattice: Grid, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (x, y, z) of a lattice, trilinearly at the voxels of a grid; outside, its border value."""
    matrix = np.linalg.inv(lattice.affine) @ part.affine
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    if np.abs(linear - np.diag(np.diag(linear))).max() < 1e-9:
        linear = np.diag(linear)  # uses scipy's separable code
    read: NDArray[np.float32] = ndimage.affine_transform(
        values, linear, offset, output_shape=part.shape, output=np.float32, order=1, mode="nearest"
    )
    return read


def _carried(one: _Mapped, value: int, part: Grid) -> NDArray[np.float32]:
    """Membership (0 .. 1) of each voxel of `part` in a structure of the atlas, by the map."""
    box = one.atlas.boxes[value]
    low = [side.start - 1 for side in box]
    inside = np.pad((one.atlas.labels[box] == value).astype(np.float32), 1)
    to_index = np.linalg.inv(one.atlas.grid.affine)
    matrix = to_index @ one.map.affine @ part.affine
    x, y, z = (np.arange(n, dtype=np.float32) for n in part.shape)
    moves = [_on(part, one.map.lattice, channel) for channel in one.map.field_mm]
    index = np.empty((3, *part.shape), np.float32)
    for axis in range(3):
        a, b, c, d = (float(value) for value in matrix[axis])
        index[axis] = (a * x[:, None, None] + b * y[None, :, None]) + (c * z + (d - low[axis]))
        for move, by in zip(moves, to_index[axis, :3], strict=True):
            if abs(by) > 1e-9:
                index[axis] += np.float32(by) * move
    read: NDArray[np.float32] = ndimage.map_coordinates(inside, index, order=1, mode="constant", output=np.float32)
    return read


@dataclass(frozen=True, eq=False)
class Labelling:
    """The work of `alice propagate` on a scan (`batch.ScanWork`).

    Attributes:
        scans: those to label.
        atlases: labelled scans.
        vote: fraction of the votes that a voxel of a structure needs.
        out: folder of the label maps, case.nii.gz each.
    """

    scans: ScanList
    atlases: Sequence[Atlas]
    vote: float
    out: Path

    def on(self, matcher: Matcher, id: str) -> dict[str, Any]:
        """Write the label map of one scan; returns the certainty of each structure, and the best inlier fraction with
        an atlas."""
        try:
            with within_memory(partial(ScanError, id)):
                volume = self.scans.volume(id)
                x, y, z = volume.array.shape
                scan = embed_scan(self.scans, id, matcher, volume)
                made = carry_labels(matcher, self.atlases, scan, Grid((x, y, z), volume.affine), vote=self.vote)
        except UserError as error:
            return {"reason": error.reason if isinstance(error, ScanError) else str(error)}
        write_label(self.out / f"{id}.nii.gz", made.labels, volume.affine, volume.forms)
        found = {str(value): round(sure, 3) for value, sure in made.certainty.items()}
        return {"certainty": found, "agreement": round(max(made.agreement), 3)}
