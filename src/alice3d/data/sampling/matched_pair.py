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
from alice3d.data.sampling.base import Correspondence, Masks, Partner, SamplerInputs
from alice3d.data.sampling.crop_sampler import CropSampler, corresponding, same_place
from alice3d.data.sampling.crops import ViewSettings, overlap_share
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid

MIN_CERTAINTY = 0.5
"""Correspondence below this certainty gives neither crop centres nor points."""


TRIES = 64
"""Second crops that are drawn where the overlap matters; the one that fits best is taken."""


@dataclass(frozen=True)
class PairWants:
    """What a method wants of a pair of crops.

    Attributes:
        masks: `visible_q`, `visible_k`.
        targets: `q_target`, `k_target`, views for a target branch; None: where masks are wanted.
        clean: `q_clean`, `k_clean`, crops without intensity changes; None: where masks are wanted.
        overlap: where both crops come from one scan, the share of Q's volume that K holds lies between these two.
    """

    masks: bool = True
    targets: bool | None = None
    clean: bool | None = None
    overlap: tuple[float, float] | None = None


class MatchedPair(CropSampler):
    """Sample i is two crops, Q and K, of one scan or of two patients.

    A sample holds (no batch axis): `q`, `k` (c, x, y, z) online views; where they are wanted, `q_target`, `k_target`
    views under other intensity changes, `q_clean`, `k_clean` without any, and `visible_q`, `visible_k` (n,) True =
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
        targets, clean, overlap: see `PairWants`.

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
        targets: bool | None = None,
        clean: bool | None = None,
        overlap: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(store=store, cases=cases, rule=rule, settings=settings, masks=masks, patch=patch, seed=seed)
        self.targets = masks is not None if targets is None else targets
        self.clean = masks is not None if clean is None else clean
        self.overlap = overlap
        self.partner: Partner = partner
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
            targets=wants.targets,
            clean=wants.clean,
            overlap=wants.overlap,
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
        grid_q = self.grid(self.centre(query, rng), rng)
        if self.partner == "random":
            others = [name for name in self.ids if name != query.id]
            key = self.cases[others[rng.integers(len(others))]]
            return self._sample(query, key, grid_q, self.grid(self.centre(key, rng), rng), None, rng)
        return self._sample(query, query, grid_q, self._beside(grid_q, rng), same_place, rng)

    def _beside(self, grid_q: Grid, rng: np.random.Generator) -> Grid:
        """A second crop of the same scan, near the first; one that overlaps it as asked, or of some the nearest."""
        side_mm = self.settings.crop * np.asarray(self.settings.spacing_mm)
        if self.overlap is None:
            reach = self.settings.shift * side_mm
            return self.grid(grid_q.centre_mm + rng.uniform(-reach, reach), rng)
        low, high = self.overlap
        drawn = [self.grid(grid_q.centre_mm + rng.uniform(-side_mm, side_mm), rng) for _ in range(TRIES)]
        wanted = rng.uniform(low, high)
        return min(drawn, key=lambda grid: abs(overlap_share(grid_q, grid) - wanted))

    def _matched(self, rng: np.random.Generator) -> dict[str, Any]:
        assert self.pairs is not None
        name_q, name_k = self.scan_pairs[rng.integers(len(self.scan_pairs))]
        query, key = self.cases[name_q], self.cases[name_k]
        field = self.pairs.correspondence(name_q, name_k)
        centres = np.stack([self.centre(query, rng) for _ in range(16)])
        best = int(np.argmax(field.certainty(centres) + rng.uniform(0, 0.5, len(centres))))
        grid_q = self.grid(centres[best], rng)
        linear = local_linear(field, centres[best]) if self.settings.local_affine else None
        grid_k = self.grid(field.map(centres[best : best + 1])[0], rng, linear)

        def carry(points_mm: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            return field.map(points_mm), field.certainty(points_mm) >= MIN_CERTAINTY

        return self._sample(query, key, grid_q, grid_k, carry, rng)

    def _sample(
        self, query: Case, key: Case, grid_q: Grid, grid_k: Grid, carry: Any, rng: np.random.Generator
    ) -> dict[str, Any]:
        settings = self.settings
        clean_q = read_grid(self.store, query, grid_q, self.rule)
        clean_k = read_grid(self.store, key, grid_k, self.rule)
        sample: dict[str, Any] = {
            **self.changed("q", clean_q, rng),
            **self.changed("k", clean_k, rng),
            **self.located("q", query, grid_q),
            **self.located("k", key, grid_k),
            "axes_q": grid_q.affine[:3, :3].astype(np.float32),
            "axes_k": grid_k.affine[:3, :3].astype(np.float32),
            "candidates_q": self.tissue(clean_q, query, settings.candidates, rng).astype(np.float32),
            "candidates_k": self.tissue(clean_k, key, settings.candidates, rng).astype(np.float32),
        }
        drawn = 4 * settings.points
        points_q = self.tissue(clean_q, query, drawn, rng) + rng.uniform(-0.5, 0.5, (drawn, 3))
        sample.update(corresponding(points_q, grid_q, grid_k, carry, settings.points))
        for name, clean in (("q", clean_q), ("k", clean_k)):
            if self.clean:
                sample[f"{name}_clean"] = clean
            if self.targets:
                sample.update(self.changed(f"{name}_target", clean, rng))
            if self.masks is not None:
                sample[f"visible_{name}"] = self.visible(clean, self.masks, rng)
        return sample
