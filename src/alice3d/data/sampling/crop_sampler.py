"""What samplers of crops share: where a crop lies, its tissue, its intensity changes and its mask."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.augmentation import IntensityChange
from alice3d.data.sampling.base import Masks, Sampler, SamplerInputs
from alice3d.data.sampling.crops import ViewSettings, random_matrix
from alice3d.data.sampling.masks import draw_visible, draw_visible_regions
from alice3d.data.store import Case, Store
from alice3d.geometry import Grid, centred_grid

ABOVE_AIR = 0.05
"""Tissue lies this much above the scan's own air in some channel; a twentieth of half a CT window."""


class CropSampler(Sampler):
    """Draws crops of stored scans.

    Args:
        store: where the scans are.
        cases: which of them.
        rule: how voxels become channels.
        settings: how crops are drawn.
        masks: how masks are drawn; None draws none.
        patch: voxels a mask's patch spans.
        seed: of everything.

    Raises:
        UserError: no case.
    """

    def __init__(
        self,
        *,
        store: Store,
        cases: list[Case],
        rule: IntensityRule,
        settings: ViewSettings,
        masks: Masks | None = None,
        patch: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(cases)
        self.store, self.rule, self.settings, self.masks = store, rule, settings, masks
        self.patch, self.seed = patch, seed

    def centre(self, case: Case, rng: np.random.Generator) -> NDArray[np.float64]:
        """A place in the body box, kept from its faces so that little of the crop is air."""
        low, high = np.asarray(case.body_box_mm)
        inset = np.minimum(0.35 * self.settings.crop * np.asarray(self.settings.spacing_mm), 0.4 * (high - low))
        centre: NDArray[np.float64] = rng.uniform(low + inset, high - inset)
        return centre

    def grid(
        self, centre_mm: NDArray[Any], rng: np.random.Generator, linear: NDArray[np.float64] | None = None
    ) -> Grid:
        side, matrix = self.settings.crop, random_matrix(self.settings, rng)
        return centred_grid(centre_mm, (side, side, side), matrix if linear is None else linear @ matrix)

    def tissue(self, image: NDArray[np.float32], case: Case, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """`count` random voxels (count, 3) of a case's crop that are not air; any voxels where all is air."""
        air = self.rule.air(case.stats)[:, None, None, None]
        flat = np.flatnonzero((image > air + ABOVE_AIR).any(axis=0))
        if not len(flat):
            flat = np.arange(image[0].size)
        chosen = flat[rng.integers(len(flat), size=count)]
        return np.stack(np.unravel_index(chosen, image.shape[1:]), axis=-1)

    def changed(self, name: str, clean: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Any]:
        """A view under intensity changes, and what was drawn for it."""
        change = IntensityChange.draw(len(clean), self.settings.strength, rng)
        return {name: change(clean, rng), f"intensity_{name}": change.record()}

    def visible(self, clean: NDArray[np.float32], masks: Masks, rng: np.random.Generator) -> NDArray[np.bool_]:
        if masks.regions:
            return draw_visible_regions(clean, self.patch, masks.ratio, masks.block, rng)
        return draw_visible((self.settings.crop // self.patch,) * 3, masks.ratio, masks.block, rng)


class WantedCrops(CropSampler):
    """A sampler of crops that is built from what a method wants of it.

    Args:
        wants: an instance of `Wants`; the other arguments are those of `CropSampler`.
    """

    def __init__(self, wants: Any, **inputs: Any) -> None:
        super().__init__(**inputs)
        self.wants = wants

    @classmethod
    def of(cls, inputs: SamplerInputs, wants: Any) -> Self:
        """See `Sampler.of`."""
        return cls(
            wants,
            store=inputs.store,
            cases=inputs.cases,
            rule=inputs.rule,
            settings=inputs.views,
            masks=inputs.masks,
            patch=inputs.patch,
            seed=inputs.seed,
        )


def same_place(points_mm: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return points_mm, np.ones(len(points_mm), bool)


def corresponding(
    points_q: NDArray[Any], grid_q: Grid, grid_k: Grid, carry: Any, count: int
) -> dict[str, NDArray[Any]]:
    """The first `count` query points whose counterpart lies in the key crop; fewer are filled up as not valid."""
    if carry is None:
        zero = np.zeros((count, 3), np.float32)
        return {"points_q": zero, "points_k": zero, "valid": np.zeros(count, bool)}
    there_mm, known = carry(grid_q.world(points_q))
    points_k = grid_k.index(there_mm)
    inside = known & grid_k.contains(there_mm, margin_voxels=0.0) & grid_q.contains(grid_q.world(points_q), 0.0)
    chosen = np.flatnonzero(inside)[:count]
    valid = np.arange(count) < len(chosen)
    chosen = np.concatenate([chosen, np.zeros(count - len(chosen), int)])
    return {
        "points_q": points_q[chosen].astype(np.float32),
        "points_k": points_k[chosen].astype(np.float32),
        "valid": valid,
    }
