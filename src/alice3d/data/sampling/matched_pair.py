"""Two crops that share anatomy, of one scan or of two patients, and the points that correspond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alice3d.data.pairs import PairsTable
from alice3d.data.pairs.correspondence import local_linear
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.augmentation import IntensityChange
from alice3d.data.sampling.base import Correspondence, Masks, Partner, Sampler, SamplerInputs
from alice3d.data.sampling.crops import ViewSettings, random_matrix
from alice3d.data.sampling.masks import draw_visible, draw_visible_regions
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid, centred_grid

ABOVE_AIR = 0.05
"""Tissue lies this much above the scan's own air in some channel; a twentieth of half a CT window."""
MIN_CERTAINTY = 0.5
"""Correspondence below this certainty gives neither crop centres nor points."""


@dataclass(frozen=True)
class PairWants:
    """What a method wants of a pair of crops.

    Attributes:
        masks: `visible_q`, `visible_k`, and the views that targets are made from.
    """

    masks: bool = True


class MatchedPair(Sampler):
    """Sample i is two crops, Q and K, of one scan or of two patients.

    A sample holds (no batch axis): `q`, `k` (c, x, y, z) online views; `q_target`, `k_target` views under other
    intensity changes and `q_clean`, `k_clean` without any (only with masks); `visible_q`, `visible_k` (n,) True =
    visible; `points_q`, `points_k` (p, 3) corresponding fractional voxel indices and `valid` (p,); `candidates_q`,
    `candidates_k` (m, 3) voxel indices in tissue; `axes_q`, `axes_k` (3, 3) voxel axes in mm. Where it was drawn:
    `affine_q`, `case_q`, ... as `Sampler` says, and `intensity_q`, ... (2c + 3,) as `IntensityChange.record` says.

    Args:
        store: where the scans are.
        cases: which of them.
        rule: how voxels become channels.
        settings: how crops are drawn.
        masks: how masks are drawn; None draws none.
        partner: `same` draws K from Q's scan; `matched` from another patient's at the matched place; `random` from
            another patient's at any place.
        pairs: the table for `matched`.
        patch: voxels a mask's patch spans.
        seed: of everything.

    Raises:
        UserError: no case, or no scan pair of the table among the cases.
    """

    Wants: ClassVar[type[Any]] = PairWants
    views: ClassVar[tuple[str, ...]] = ("q", "k")

    def __init__(
        self,
        *,
        store: Store,
        cases: list[Case],
        rule: IntensityRule,
        settings: ViewSettings,
        masks: Masks | None = None,
        partner: Partner = "same",
        pairs: PairsTable | None = None,
        patch: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(cases)
        self.store, self.rule, self.settings, self.masks = store, rule, settings, masks
        self.partner: Partner = partner
        self.patch, self.seed = patch, seed
        self.pairs = pairs
        self.scan_pairs: list[tuple[str, str]] = []
        if partner == "matched":
            if pairs is None:
                raise UserError("matched partners need a pairs table: give --pairs, or choose --partner same")
            self.scan_pairs = [(a, b) for a, b in pairs.scan_pairs() if a in self.cases and b in self.cases]
            if not self.scan_pairs:
                raise UserError(
                    "no scan pair of the pairs table lies among the chosen scans; was it made from this store?"
                )
        if partner == "random" and len(cases) < 2:
            raise UserError("random partners need at least two scans")

    @classmethod
    def of(cls, inputs: SamplerInputs, wants: PairWants) -> Self:
        """See `Sampler.of`."""
        return cls(
            store=inputs.store,
            cases=inputs.cases,
            rule=inputs.rule,
            settings=inputs.views,
            masks=inputs.masks if wants.masks else None,
            partner=inputs.partner,
            pairs=inputs.pairs,
            patch=inputs.patch,
            seed=inputs.seed,
        )

    @classmethod
    def correspondence(cls, batch: Mapping[str, Tensor]) -> Correspondence:
        """Points of Q and K."""
        return Correspondence("q", "k", batch["points_q"], batch["points_k"], batch["valid"].bool())

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._drawn(index), "number": np.asarray(index, np.int64)}

    def _drawn(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        if self.partner == "matched" and rng.random() < self.settings.matched_share:
            return self._matched(rng)
        query = self.cases[self.ids[rng.integers(len(self.ids))]]
        grid_q = self._grid(self._centre(query, rng), rng)
        if self.partner == "random":
            others = [name for name in self.ids if name != query.id]
            key = self.cases[others[rng.integers(len(others))]]
            return self._sample(query, key, grid_q, self._grid(self._centre(key, rng), rng), None, rng)
        reach = self.settings.shift * self.settings.crop * np.asarray(self.settings.spacing_mm)
        grid_k = self._grid(grid_q.centre_mm + rng.uniform(-reach, reach), rng)
        return self._sample(query, query, grid_q, grid_k, _identity, rng)

    def _matched(self, rng: np.random.Generator) -> dict[str, Any]:
        assert self.pairs is not None
        name_q, name_k = self.scan_pairs[rng.integers(len(self.scan_pairs))]
        query, key = self.cases[name_q], self.cases[name_k]
        field = self.pairs.correspondence(name_q, name_k)
        centres = np.stack([self._centre(query, rng) for _ in range(16)])
        best = int(np.argmax(field.certainty(centres) + rng.uniform(0, 0.5, len(centres))))
        grid_q = self._grid(centres[best], rng)
        linear = local_linear(field, centres[best]) if self.settings.local_affine else None
        grid_k = self._grid(field.map(centres[best : best + 1])[0], rng, linear)

        def carry(points_mm: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            return field.map(points_mm), field.certainty(points_mm) >= MIN_CERTAINTY

        return self._sample(query, key, grid_q, grid_k, carry, rng)

    def _centre(self, case: Case, rng: np.random.Generator) -> NDArray[np.float64]:
        """A place in the body box, kept from its faces so that little of the crop is air."""
        low, high = np.asarray(case.body_box_mm)
        inset = np.minimum(0.35 * self.settings.crop * np.asarray(self.settings.spacing_mm), 0.4 * (high - low))
        centre: NDArray[np.float64] = rng.uniform(low + inset, high - inset)
        return centre

    def _grid(
        self, centre_mm: NDArray[Any], rng: np.random.Generator, linear: NDArray[np.float64] | None = None
    ) -> Grid:
        side, matrix = self.settings.crop, random_matrix(self.settings, rng)
        return centred_grid(centre_mm, (side, side, side), matrix if linear is None else linear @ matrix)

    def _tissue(
        self, image: NDArray[np.float32], case: Case, count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """`count` random voxels (count, 3) of a case's crop that are not air; any voxels where all is air."""
        air = self.rule.air(case.stats)[:, None, None, None]
        flat = np.flatnonzero((image > air + ABOVE_AIR).any(axis=0))
        if not len(flat):
            flat = np.arange(image[0].size)
        chosen = flat[rng.integers(len(flat), size=count)]
        return np.stack(np.unravel_index(chosen, image.shape[1:]), axis=-1)

    def _sample(
        self, query: Case, key: Case, grid_q: Grid, grid_k: Grid, carry: Any, rng: np.random.Generator
    ) -> dict[str, Any]:
        settings = self.settings
        clean_q = read_grid(self.store, query, grid_q, self.rule)
        clean_k = read_grid(self.store, key, grid_k, self.rule)
        sample: dict[str, Any] = {
            **self._changed("q", clean_q, rng),
            **self._changed("k", clean_k, rng),
            **self.located("q", query, grid_q),
            **self.located("k", key, grid_k),
            "axes_q": grid_q.affine[:3, :3].astype(np.float32),
            "axes_k": grid_k.affine[:3, :3].astype(np.float32),
            "candidates_q": self._tissue(clean_q, query, settings.candidates, rng).astype(np.float32),
            "candidates_k": self._tissue(clean_k, key, settings.candidates, rng).astype(np.float32),
        }
        drawn = 4 * settings.points
        points_q = self._tissue(clean_q, query, drawn, rng) + rng.uniform(-0.5, 0.5, (drawn, 3))
        sample.update(_corresponding(points_q, grid_q, grid_k, carry, settings.points))
        if self.masks is not None:
            for name, clean in (("q", clean_q), ("k", clean_k)):
                sample[f"{name}_clean"] = clean
                sample.update(self._changed(f"{name}_target", clean, rng))
                sample[f"visible_{name}"] = self._visible(clean, self.masks, rng)
        return sample

    def _changed(self, name: str, clean: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Any]:
        """A view under intensity changes, and what was drawn for it."""
        change = IntensityChange.draw(len(clean), self.settings.strength, rng)
        return {name: change(clean, rng), f"intensity_{name}": change.record()}

    def _visible(self, clean: NDArray[np.float32], masks: Masks, rng: np.random.Generator) -> NDArray[np.bool_]:
        if masks.regions:
            return draw_visible_regions(clean, self.patch, masks.ratio, masks.block, rng)
        return draw_visible((self.settings.crop // self.patch,) * 3, masks.ratio, masks.block, rng)


def _identity(points_mm: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return points_mm, np.ones(len(points_mm), bool)


def _corresponding(
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
