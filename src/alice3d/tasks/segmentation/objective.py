"""Fine-tuning for segmentation: the objective and the initial bias."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alice3d.losses.segment import IGNORED, segmentation_loss
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.tasks.adaptation import TunedTask
from alice3d.tasks.segmentation.samples import SegmentationSamples
from alice3d.tasks.settings import SegmentationSettings


@torch.no_grad()
def start_from_frequencies(net: SegmentationNet, samples: SegmentationSamples, count: int = 32) -> None:
    """Initialise the last layer's bias to the frequency of each class in the first `count` crops,
    voxels without a reference left out.

    As in the head of the focal loss (Lin et al., ICCV 2017). Small structures fill well below a percent of a crop: with
    equal initial logits soft Dice has no gradient there, and cross-entropy needs hundreds of steps to lower them.
    """
    labels = (samples[i]["labels"] for i in range(count))
    voxels = sum(np.bincount(one[one != IGNORED], minlength=net.classes) for one in labels)
    share = torch.from_numpy(np.maximum(voxels / max(np.sum(voxels), 1), 1e-4)).float()
    bias = net.decoder.classify.bias
    assert bias is not None
    bias.copy_((share / share[0]).log())


class SegmentationTask(TunedTask[SegmentationNet]):
    """A segmenter in training."""

    settings: SegmentationSettings

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Dice and cross-entropy of one batch of `SegmentationSamples`."""
        logits_bkxyz = self.net(batch["image"], freeze_backbone=step < self.frozen_steps)
        return segmentation_loss(
            logits_bkxyz, batch["labels"], batch["contoured"], structure_weight=self.settings.structure_weight
        )
