"""Base crops that tile a region of a scan, and target crops inside it whose overlap with each base is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alice3d.data.sampling.crop_sampler import WantedCrops
from alice3d.data.sampling.crops import random_matrix
from alice3d.data.store import Case
from alice3d.data.store.read_grid import read_grid
from alice3d.geometry import Grid, centred_grid


@dataclass(frozen=True)
class BaseCropWants:
    """What a method wants of a region.

    Attributes:
        bases: base crops along R, A, S.
        targets: crops inside the region, 2 or more.
    """

    bases: tuple[int, int, int] = (3, 3, 1)
    targets: int = 2


def overlaps(start: NDArray[np.int64], bases: tuple[int, int, int], side: int) -> NDArray[np.float32]:
    """Share of a target crop's volume in each base crop, in x-major order; they sum to 1.

    Args:
        start: (3,) first voxel of the target in the region.
        bases: base crops along each axis; base j of an axis starts at voxel j · side.
        side: voxels a side of every crop.
    """
    along = [
        np.clip(side - np.abs(int(first) - np.arange(count) * side), 0, None) / side
        for first, count in zip(start, bases, strict=True)
    ]
    shares: NDArray[np.float32] = np.einsum("i,j,k->ijk", *along).ravel().astype(np.float32)
    return shares


class BaseCrops(WantedCrops):
    """Sample i is a region of one scan, cut into base crops, and target crops inside it.

    The region is turned and scaled as a whole and read once. It is made smaller where the body is smaller than it, so
    that bases do not lie in air; the aspect of the voxels stays. Each crop gets an intensity change of its own, and
    none is mirrored: where left and right lie is what is learnt.

    A sample holds (no batch axis): `base_j`, `target_t` (c, x, y, z) and `overlap` (t, j), the share of target t in
    base j; where each was drawn: `affine_base_0`, `case_base_0`, ... as `Sampler` says.

    Args:
        wants: see `BaseCropWants`; the other arguments are those of `CropSampler`.
    """

    Wants: ClassVar[type[Any]] = BaseCropWants
    views: ClassVar[tuple[str, ...]] = ("target_0", "target_1")

    wants: BaseCropWants

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        case = self.cases[self.ids[rng.integers(len(self.ids))]]
        region, side = self._region(case, rng), self.settings.crop
        image = read_grid(self.store, case, region, self.rule)
        sample: dict[str, Any] = {"number": np.asarray(index, np.int64)}
        starts = np.stack(np.meshgrid(*(np.arange(n) * side for n in self.wants.bases), indexing="ij"), axis=-1)
        for j, start in enumerate(starts.reshape(-1, 3)):
            self._cut(f"base_{j}", image, region, start, case, sample, rng)
        shares = []
        for t in range(self.wants.targets):
            start = rng.integers(0, (np.asarray(self.wants.bases) - 1) * side + 1)
            self._cut(f"target_{t}", image, region, start, case, sample, rng)
            shares.append(overlaps(start, self.wants.bases, side))
        sample["overlap"] = np.stack(shares)
        return sample

    def _region(self, case: Case, rng: np.random.Generator) -> Grid:
        """Where all base crops lie."""
        x, y, z = (n * self.settings.crop for n in self.wants.bases)
        matrix = random_matrix(self.settings, rng)
        low, high = np.asarray(case.body_box_mm)
        extent = np.asarray((x, y, z)) * np.linalg.norm(matrix, axis=0)
        matrix = matrix * min(1.0, float(np.min((high - low) / extent)))
        half = np.asarray((x, y, z)) * np.linalg.norm(matrix, axis=0) / 2
        centre = rng.uniform(np.minimum(low + half, (low + high) / 2), np.maximum(high - half, (low + high) / 2))
        return centred_grid(centre, (x, y, z), matrix)

    def _cut(
        self,
        name: str,
        image: NDArray[np.float32],
        region: Grid,
        start: NDArray[np.int64],
        case: Case,
        sample: dict[str, Any],
        rng: np.random.Generator,
    ) -> None:
        """Add the crop of the region that starts at a voxel."""
        stop = start + self.settings.crop
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        sample |= {
            **self.changed(name, image[:, *box], rng),
            **self.located(name, case, region.crop(start, stop)),
        }
