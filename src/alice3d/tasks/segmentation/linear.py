"""A linear head on a frozen encoder: voxels sampled by stratum, one convex problem, then Dice, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from alice3d.console import Progress
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.augmentation import change_intensity
from alice3d.data.sampling.crops import ViewSettings, random_matrix
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import case_grid, read_grid, read_label_grid
from alice3d.geometry import Grid, centred_grid
from alice3d.nn.heads.segmentation import LinearSegmentationNet, features_at
from alice3d.nn.tiling import Tile, read_pyramids, reading_window
from alice3d.tasks.base import minimise
from alice3d.tasks.segmentation.samples import classes_of, contoured_classes
from alice3d.tasks.settings import LinearSettings

# Shape suffixes: n voxels, f features, k classes (0 is background), xyz voxels.


@dataclass(frozen=True)
class Voxels:
    """Sampled voxels of all cases.

    Attributes:
        features: (n, f) float32.
        classes: (n,) class indices.
        contoured: (n, k) True = this class was contoured in the voxel's case.
        weight: (n,) number of voxels of its scan that each represents.
    """

    features: Tensor
    classes: Tensor
    contoured: Tensor
    weight: Tensor


MAX_VOXELS = 300_000
"""Maximum number from all cases together: more cases give fewer voxels each, which bounds memory and time."""
HARD = 0.1
"""Background with this predicted probability of a structure is sampled more densely in the next round."""


class LinearFit:
    """Fits the linear layer of a `LinearSegmentationNet`; its backbone is frozen.

    Args:
        net: in evaluation mode.
        store: of the scans.
        cases: labelled ones.
        values: label value of each class.
        rule: how voxels become channels.
        spacing_mm: (3,) the spacing that scans are read at.
        crop: voxels per side of the windows at prediction, see `reading_window`.
        settings: of the fit.
        structure_weight: weight of a structure's voxel in the cross-entropy; background's is 1.
        device: device of the backbone.
        seed: of the sampled voxels.
    """

    def __init__(
        self,
        *,
        net: LinearSegmentationNet,
        store: Store,
        cases: list[Case],
        values: tuple[int, ...],
        rule: IntensityRule,
        spacing_mm: tuple[float, float, float],
        crop: int,
        settings: LinearSettings,
        structure_weight: float,
        device: torch.device,
        seed: int,
    ) -> None:
        self.net, self.store, self.cases, self.values = net.to(device), store, cases, values
        self.rule, self.spacing_mm = rule, spacing_mm
        self.window, self.whole_voxels = reading_window(net.backbone, crop)
        self.settings, self.structure_weight, self.device, self.seed = settings, structure_weight, device, seed
        strata = len(cases) * settings.linear_views * (len(values) + 2)
        self.voxels = max(min(settings.linear_voxels, MAX_VOXELS // strata), 8)

    def solve(self, bar: Progress) -> float:
        """Set the layer's weights; returns the last loss. The bar advances once per case and round."""
        loss = 0.0
        for round_ in range(self.settings.linear_rounds):
            drawn = []
            for number, case in enumerate(self.cases):
                for view in range(self.settings.linear_views):
                    rng = np.random.default_rng([self.seed, round_, number, view])
                    drawn.append(self.draw(case, rng, hard=round_ > 0, changed=view > 0))
                bar.advance(note=case.id)
            voxels = Voxels(*(torch.cat([getattr(part, name) for part in drawn]) for name in Voxels.__annotations__))
            weight, bias, loss = solve_linear(voxels, self.settings, self.structure_weight)
            with torch.no_grad():
                self.net.linear.weight.copy_(weight)
                self.net.linear.bias.copy_(bias)
        return loss

    @torch.no_grad()
    def draw(self, case: Case, rng: np.random.Generator, *, hard: bool, changed: bool) -> Voxels:
        """Voxels of one case: of each structure, around structures, and anywhere else.

        Args:
            case: labelled.
            rng: of the voxels and of the view.
            hard: also background where the current network predicts a structure.
            changed: in a rotated, scaled and intensity-augmented view instead of the scan itself.
        """
        image_cxyz, classes_xyz = (
            self._view(case, rng) if changed else self._read(case, case_grid(case, self.spacing_mm))
        )
        contoured = contoured_classes(case, self.values)
        whole = classes_xyz.size <= self.whole_voxels
        kept = list(self._pyramids(image_cxyz)) if whole else None  # else too much memory: computed twice
        strata_xyz = strata_of(classes_xyz, len(self.values))
        if hard:
            for tile, pyramid in kept or self._pyramids(image_cxyz):
                probability_xyz = self.net.classify(pyramid, tile.side)[0].softmax(dim=0)[:, *tile.inner].cpu().numpy()
                wrong = probability_xyz[1:][contoured[1:]].sum(axis=0) > HARD
                strata_xyz[tile.own][wrong & (classes_xyz[tile.own] == 0)] = len(self.values) + 1
        index_n3, weight = draw_by_stratum(strata_xyz, self.voxels, rng)
        features = torch.empty(len(index_n3), sum(self.net.backbone.channels))
        for tile, pyramid in kept or self._pyramids(image_cxyz):
            inside = ((index_n3 >= tile.own_low) & (index_n3 < tile.own_high)).all(axis=1)
            local = torch.from_numpy(index_n3[inside] - tile.low).to(self.device)
            features[torch.from_numpy(inside)] = features_at(pyramid, tile.side, local).cpu()
        return Voxels(
            features=features,
            classes=torch.from_numpy(classes_xyz[tuple(index_n3.T)]),
            contoured=torch.from_numpy(contoured).expand(len(index_n3), -1),
            weight=torch.from_numpy(weight),
        )

    def _read(self, case: Case, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        image_cxyz = read_grid(self.store, case, grid, self.rule)
        return image_cxyz, classes_of(read_label_grid(self.store, case, grid), self.values)

    def _view(self, case: Case, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        grid = case_grid(case, self.spacing_mm)
        matrix = random_matrix(ViewSettings(spacing_mm=self.spacing_mm), rng)
        image_cxyz, classes_xyz = self._read(case, centred_grid(grid.centre_mm, grid.shape, matrix))
        return change_intensity(image_cxyz, 1.0, rng), classes_xyz

    def _pyramids(self, image_cxyz: NDArray[np.float32]) -> Iterator[tuple[Tile, list[Tensor]]]:
        return read_pyramids(self.net.backbone, image_cxyz, self.window, self.whole_voxels, self.device)


def strata_of(classes_xyz: NDArray[np.int64], classes: int, reach: int = 3) -> NDArray[np.int64]:
    """Stratum of each voxel: 1 .. k-1 its structure, 0 background, k background within `reach` voxels of a structure.

    k + 1 is free for other hard voxels; voxels without a reference (below 0) are in none.
    """
    strata = classes_xyz.copy()
    near = ndimage.binary_dilation(classes_xyz > 0, iterations=reach)
    strata[near & (classes_xyz == 0)] = classes
    return strata


def draw_by_stratum(
    strata_xyz: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Up to `count` voxels of each stratum from 0, without repeats.

    Returns:
        indices (n, 3), and number of voxels of its stratum that each represents (n,).
    """
    chosen, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    flat = strata_xyz.ravel()
    for stratum in np.unique(flat[flat >= 0]):
        members = np.flatnonzero(flat == stratum)
        taken = members if len(members) <= count else rng.choice(members, count, replace=False)
        chosen.append(taken)
        weights.append(np.full(len(taken), len(members) / len(taken), np.float32))
    index = np.stack(np.unravel_index(np.concatenate(chosen), strata_xyz.shape), axis=-1)
    return index, np.concatenate(weights)


def solve_linear(
    voxels: Voxels, settings: LinearSettings, structure_weight: float = 4.0
) -> tuple[Tensor, Tensor, float]:
    """The linear layer (weight (k, f), bias (k,)) with the smallest loss over sampled voxels, and that loss.

    First weighted cross-entropy only, which is convex, then with soft Dice, which sets each structure's threshold
    where overlap is best. Weights make the sums those of whole scans, so no class is over-predicted. Features are
    standardised for the fit, and the standardisation is folded into the layer.
    """
    mean = voxels.features.mean(dim=0)
    scale = 1 / voxels.features.std(dim=0).clamp(min=1e-5)
    x_nf = (voxels.features - mean) * scale
    hidden_nk = ~voxels.contoured
    target_nk = F.one_hot(voxels.classes, hidden_nk.shape[1]).to(x_nf.dtype)
    entropy_weight = voxels.weight * torch.where(voxels.classes > 0, structure_weight, 1.0)
    entropy_weight = entropy_weight / entropy_weight.sum()
    weight = torch.zeros(hidden_nk.shape[1], x_nf.shape[1], requires_grad=True)
    bias = torch.zeros(hidden_nk.shape[1], requires_grad=True)

    def loss_of(with_dice: bool) -> Tensor:
        logits_nk = x_nf @ weight.T + bias
        log_p = logits_nk.log_softmax(dim=1)
        # Structures that were not contoured may be present: background's probability includes them (see
        # losses.segment).
        merged = log_p.masked_fill(~hidden_nk & (torch.arange(log_p.shape[1]) > 0), float("-inf")).logsumexp(dim=1)
        chosen = torch.where(voxels.classes > 0, log_p.gather(1, voxels.classes[:, None])[:, 0], merged)
        loss = -(entropy_weight * chosen).sum() + settings.ridge * weight.square().sum()
        if with_dice:
            counted = voxels.weight[:, None] * voxels.contoured[:, 1:]
            p_nk = log_p[:, 1:].exp()
            overlap = (counted * p_nk * target_nk[:, 1:]).sum(dim=0)
            total = (counted * (p_nk + target_nk[:, 1:])).sum(dim=0)
            loss = loss + (1 - 2 * overlap / total.clamp(min=1)).mean()
        return loss

    value = minimise(lambda: loss_of(False), [weight, bias], settings.linear_iterations)
    value = minimise(lambda: loss_of(True), [weight, bias], settings.linear_iterations)
    folded = weight.detach() * scale
    return folded, bias.detach() - folded @ mean, value
