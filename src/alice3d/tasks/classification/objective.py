"""Classification: the objective, and the linear head on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alice3d.console import Progress
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.tasks.adaptation import TunedTask
from alice3d.tasks.base import minimise
from alice3d.tasks.classification.samples import ClassificationSamples
from alice3d.tasks.settings import LinearSettings

# Shape suffixes: n examples, d width, k classes, xyz voxels.


class ClassificationTask(TunedTask[ClassificationNet]):
    """A classifier in training."""

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Cross-entropy of one batch of `ClassificationSamples`, and the accuracy."""
        scores_bk = self.net(batch["image"], freeze_backbone=step < self.frozen_steps).float()
        right = (scores_bk.argmax(dim=1) == batch["label"]).float().mean()
        return {"loss": F.cross_entropy(scores_bk, batch["label"]), "accuracy": right}


@torch.no_grad()
def frozen_features(
    net: ClassificationNet, samples: ClassificationSamples, views: int, *, device: torch.device, bar: Progress
) -> tuple[Tensor, Tensor]:
    """Features of each example from the frozen backbone, computed once.

    Args:
        net: in evaluation mode.
        samples: whose examples are used, each once.
        views: of each example; the first is the scan itself, the others are augmented.
        device: device of the backbone.
        bar: advances once per example.

    Returns:
        features (n, d) and class indices (n,), n = examples times views.
    """
    net = net.to(device)
    features, labels = [], []
    for number, example in enumerate(samples.examples):
        drawn = [
            samples.view(example, np.random.default_rng([samples.seed, number, view]) if view else None)
            for view in range(views)
        ]
        features.append(net.features(torch.from_numpy(np.stack(drawn)).to(device)).cpu())
        labels += [samples.classes.index(example.name)] * views
        bar.advance(note=example.case.id)
    return torch.cat(features), torch.tensor(labels)


def solve_linear(
    features_nd: Tensor, labels_n: Tensor, classes: int, settings: LinearSettings
) -> tuple[Tensor, Tensor, float]:
    """Multinomial logistic regression with equal weight for every class (weight (k, d), bias (k,), loss).

    Features are standardised for the fit, and the standardisation is folded into the layer.
    """
    mean = features_nd.mean(dim=0)
    scale = 1 / features_nd.std(dim=0, unbiased=False).clamp(min=1e-5)
    x_nd = (features_nd - mean) * scale
    share = torch.bincount(labels_n, minlength=classes).float().clamp(min=1)
    weight = torch.zeros(classes, x_nd.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)

    def loss_of() -> Tensor:
        loss = F.cross_entropy(x_nd @ weight.T + bias, labels_n, weight=1 / share)
        return loss + settings.ridge * weight.square().sum()

    value = minimise(loss_of, [weight, bias], 4 * settings.linear_iterations)
    folded = weight.detach() * scale
    return folded, bias.detach() - folded @ mean, value
