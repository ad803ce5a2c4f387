"""Class logits of a crop or a scan from a backbone's tokens: one linear layer."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alice3d.nn.backbones.base import Backbone

# Shape suffixes: b batch, c channels, d width, k classes, n tokens, xyz voxels.

Pool = Literal["class", "mean"]


class ClassificationNet(nn.Module):
    """A backbone and a linear layer over its class token or over the mean of its patch tokens.

    Args:
        backbone: sides of a volume are multiples of its `stride`.
        classes: number of classes.
        pool: `class` uses the class token, `mean` the mean of the patch tokens.
    """

    def __init__(self, backbone: Backbone, classes: int, pool: Pool) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        self.pool = pool
        self.stride = backbone.stride
        self.linear = nn.Linear(backbone.width, classes)

    def features(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d"]:
        """Input of the linear layer."""
        class_bd, tokens_bnd = self.backbone.tokens(volume)
        return (class_bd if self.pool == "class" else tokens_bnd.mean(dim=1)).float()

    def forward(self, volume: Float[Tensor, "b c x y z"], *, freeze_backbone: bool = False) -> Float[Tensor, "b k"]:
        """Class logits; with `freeze_backbone` no gradient flows into the backbone."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_backbone):
            features_bd = self.features(volume)
        scores: Tensor = self.linear(features_bd)
        return scores
