"""Several crops of one scan: whole-sized ones that overlap, and smaller ones inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alice3d.data.sampling.base import Correspondence
from alice3d.data.sampling.crop_sampler import WantedCrops, corresponding, same_place
from alice3d.data.sampling.crops import overlap_share, random_matrix
from alice3d.data.sampling.masks import draw_visible
from alice3d.data.store import Case
from alice3d.data.store.read_grid import read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid, centred_grid

TRIES = 64
"""Places that are drawn for a further crop; the first that overlaps enough is taken, else the one that does most."""


@dataclass(frozen=True)
class ViewsWants:
    """What a method wants of the views of a scan.

    Attributes:
        wholes: crops of the full side, 2 or more.
        smalls: crops of half the side, inside the first one.
        overlap: least share of the first crop's volume that each further one holds.
        masked_share: share of the full-sized crops with a mask; 0 = none has one.
        mask_ratios: their share of hidden patches, drawn between the two; None = the run's mask ratio.
        clean: the full-sized crops without intensity changes, too.
    """

    wholes: int = 2
    smalls: int = 0
    overlap: float = 0.1
    masked_share: float = 0.0
    mask_ratios: tuple[float, float] | None = None
    clean: bool = False


class SeveralViews(WantedCrops):
    """Sample i is several crops of one scan, each with an intensity change of its own.

    A sample holds (no batch axis), for the n-th crop of the full side and the m-th of half of it: `whole_n` (c, x, y,
    z), `small_m` (c, x/2, y/2, z/2); where wanted `whole_n_clean`, and `visible_whole_n` (n,) True = visible, all of it
    where a crop has no mask. Places that the first two crops show both: `points_q`, `points_k` (p, 3) fractional voxel
    indices, `valid` (p,). Where each was drawn: `affine_whole_0`, `case_whole_0`, ... as `Sampler` says.

    Args:
        wants: see `ViewsWants`; the other arguments are those of `CropSampler`.

    Raises:
        UserError: no case, or half a crop is no multiple of the patch.
    """

    Wants: ClassVar[type[Any]] = ViewsWants
    views: ClassVar[tuple[str, ...]] = ("whole_0", "whole_1")

    wants: ViewsWants

    def __init__(self, wants: ViewsWants, **inputs: Any) -> None:
        super().__init__(wants, **inputs)
        half = self.settings.crop // 2
        if wants.smalls and half % self.patch:
            raise UserError(
                f"--crop: half of {self.settings.crop} voxels is no multiple of the backbone's stride {self.patch}; "
                f"take a multiple of {2 * self.patch}"
            )
        self.small = replace(self.settings, crop=half)

    @classmethod
    def correspondence(cls, batch: Mapping[str, Tensor]) -> Correspondence:
        """Points of the first two crops."""
        return Correspondence("whole_0", "whole_1", batch["points_q"], batch["points_k"], batch["valid"].bool())

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        case = self.cases[self.ids[rng.integers(len(self.ids))]]
        first = self.grid(self.centre(case, rng), rng)
        wholes = [first, *(self._beside(first, rng) for _ in range(self.wants.wholes - 1))]
        sample: dict[str, Any] = {"number": np.asarray(index, np.int64)}
        for n, grid in enumerate(wholes):
            clean = self._view(f"whole_{n}", case, grid, sample, rng)
            if self.wants.clean:
                sample[f"whole_{n}_clean"] = clean
            if self.wants.masked_share:
                sample[f"visible_whole_{n}"] = self._mask(rng)
            if n == 0:
                drawn = 4 * self.settings.points
                points = self.tissue(clean, case, drawn, rng) + rng.uniform(-0.5, 0.5, (drawn, 3))
                sample |= corresponding(points, first, wholes[1], same_place, self.settings.points)
        for m in range(self.wants.smalls):
            self._view(f"small_{m}", case, self._inside(first, rng), sample, rng)
        return sample

    def _view(
        self, name: str, case: Case, grid: Grid, sample: dict[str, Any], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Add a crop to the sample; returns it without intensity changes."""
        clean = read_grid(self.store, case, grid, self.rule)
        sample |= {**self.changed(name, clean, rng), **self.located(name, case, grid)}
        return clean

    def _beside(self, first: Grid, rng: np.random.Generator) -> Grid:
        """A crop of the full side that overlaps the first one enough, or of some tried the most."""
        reach = self.settings.crop * np.asarray(self.settings.spacing_mm)
        best, most = first, -1.0
        for _ in range(TRIES):
            grid = self.grid(first.centre_mm + rng.uniform(-reach, reach), rng)
            share = overlap_share(first, grid)
            if share > most:
                best, most = grid, share
            if share >= self.wants.overlap:
                break
        return best

    def _inside(self, first: Grid, rng: np.random.Generator) -> Grid:
        """A crop of half the side whose centre lies in the inner half of the first one."""
        side = self.small.crop
        centre = first.world(rng.uniform(0.25, 0.75, 3) * (np.asarray(first.shape) - 1))
        return centred_grid(centre, (side, side, side), random_matrix(self.small, rng))

    def _mask(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which patches of a crop are seen: all of them, unless the crop is drawn to have a mask."""
        assert self.masks is not None
        grid = (self.settings.crop // self.patch,) * 3
        if rng.random() >= self.wants.masked_share:
            return np.ones(int(np.prod(grid)), bool)
        ratio = self.masks.ratio if self.wants.mask_ratios is None else rng.uniform(*self.wants.mask_ratios)
        return draw_visible(grid, ratio, self.masks.block, rng)
