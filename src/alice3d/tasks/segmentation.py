"""Fine-tuning for segmentation: which cases, which net, which rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.losses.segment import segmentation_loss
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.tasks.crops import SegmentationSamples
from alice3d.tasks.settings import SegmentationSettings
from alice3d.tasks.trunk import TunedTask

SINGLE_SHARE = 0.98
"""A structure counts as one piece where its largest piece holds this share of its voxels in every training case."""


def labelled_cases(store: Store, split: str) -> list[Case]:
    """Cases of a split whose reference shows at least one structure, sorted by id.

    Raises:
        UserError: no such split, or no such case in it.
    """
    if split not in store.splits:
        known = ", ".join(store.splits) or "none"
        raise UserError(f"split: the store has no split {split!r}; it has {known}")
    found = [case for case in store.cases(split) if case.labelled and case.structures]
    if not found:
        raise UserError(f"split: no case of split {split!r} has labels; give `alice prepare` a --labels folder")
    return found


def draw_cases(
    cases: list[Case],
    count: int | None,
    seed: int,
    shows: Callable[[Case], Iterable[int | str]] = lambda case: case.structures,
) -> list[Case]:
    """The first `count` cases of a seeded order: the draw of 5 is part of the draw of 20 with the same seed.

    In that order, cases that show a structure not shown before come first, so that a small draw lacks none it need not.

    Args:
        cases: labelled ones.
        count: how many; None takes all.
        seed: of the order.
        shows: what a case can lack: its structures, or the classes of its rows.

    Raises:
        UserError: there are fewer.
    """
    if count is None:
        return cases
    if count > len(cases):
        raise UserError(f"--labels: {count} labelled cases are asked for, the training split has {len(cases)}")
    shuffled = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    seen: set[int | str] = set()
    first = []
    for case in shuffled:
        if not seen.issuperset(shows(case)):
            first.append(case)
            seen.update(shows(case))
    return [*first, *(case for case in shuffled if case not in first)][:count]


def single_pieces(store: Store, cases: list[Case], values: tuple[int, ...]) -> list[int]:
    """Label values of the structures that are one connected piece in every case that shows them."""
    single = set(values[1:])
    for case in cases:
        labels = store.label(case.id)[:, :, :]
        for value in single.intersection(case.structures):
            pieces, count = ndimage.label(labels == value, np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            if count > 1 and sizes.max() < SINGLE_SHARE * sizes.sum():
                single.discard(value)
    return sorted(single)


@torch.no_grad()
def start_from_frequencies(net: SegmentationNet, samples: SegmentationSamples, count: int = 32) -> None:
    """Let the last layer begin with each class as likely as it is in the first `count` crops.

    As in the head of the focal loss (Lin et al., ICCV 2017). Small structures fill well below a percent of a crop: from
    equal scores soft Dice has no slope there, and hundreds of steps go by before cross-entropy has brought them down.
    """
    voxels = sum(np.bincount(samples[i]["labels"].ravel(), minlength=net.classes) for i in range(count))
    share = torch.from_numpy(np.maximum(voxels / np.sum(voxels), 1e-4)).float()
    bias = net.decoder.classify.bias
    assert bias is not None
    bias.copy_((share / share[0]).log())


class SegmentationTask(TunedTask[SegmentationNet]):
    """A segmenter that learns."""

    settings: SegmentationSettings

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Dice and cross-entropy of one batch of `tasks.crops` samples."""
        logits_bkxyz = self.net(batch["image"], freeze_backbone=step < self.frozen_steps)
        return segmentation_loss(
            logits_bkxyz, batch["labels"], batch["contoured"], structure_weight=self.settings.structure_weight
        )
