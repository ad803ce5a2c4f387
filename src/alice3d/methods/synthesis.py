"""Randomised synthesis: features of one label agree under any appearance, learnt without any scan."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.base import Sampler
from alice3d.data.sampling.synthetic_layouts import LayoutWants, SyntheticLayouts
from alice3d.losses.contrast import sample_at
from alice3d.losses.pooled_contrast import supervised_contrast
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.heads.projector import Norm, Projector

Shapes = Annotated[int, Field(ge=1, le=200)]


class SynthesisConfig(Config):
    """Settings of randomised synthesis."""

    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Divides the cosine similarities before the softmax."""
    width: Annotated[int, Field(ge=2)] = 128
    """Width of the vectors that are contrasted, and of the hidden layers. Published are 256."""
    norm: Norm = "layer"
    """Norm of the projectors."""
    shapes: tuple[Shapes, Shapes] = (20, 39)
    """Fewest and most shapes of a layout."""
    uniform: bool = False
    """Places are drawn uniformly over voxels, as published, so that the background rules; off = in equal shares over
    the labels."""


class Synthesis(PretrainMethod):
    """Supervised contrast on painted layouts, at every scale (anatomix, Dey et al., ICLR 2025, arXiv 2411.02372).

    Shapes are warped superellipsoids instead of organs of label maps, and the encoder's scales alone are contrasted:
    the published network learns its decoder, too.
    """

    Config: ClassVar[type[Config]] = SynthesisConfig
    paper: ClassVar[str] = "Dey et al., ICLR 2025, arXiv 2411.02372"
    Sampler: ClassVar[type[Sampler]] = SyntheticLayouts
    advice: ClassVar[dict[str, str]] = {
        "features": "try a lower --learning-rate, a longer --warmup or a higher --options.temperature",
    }

    def __init__(self, backbone: Backbone, config: SynthesisConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.projectors = nn.ModuleList(
            [Projector(c, hidden=config.width, out=config.width, norm=config.norm) for c in backbone.channels]
        )

    def wants(self) -> LayoutWants:
        """Layouts."""
        return LayoutWants(self.config.shapes, self.config.uniform)

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Mean over the scales and layouts of the contrast of their labels."""
        maps = self.backbone.pyramid(torch.cat([batch["first"], batch["second"]]))
        shape, b = tuple(batch["first"].shape[2:]), len(batch["first"])
        points = batch["points"].repeat(2, 1, 1)
        losses = []
        for level, projector in zip(maps, self.projectors, strict=True):
            rows = projector(sample_at(level, points, shape)).unflatten(0, (2, b))  # (view, layout, point, width)
            losses += [supervised_contrast(rows[:, i], batch["labels"][i], self.config.temperature) for i in range(b)]
        loss = torch.stack(losses).mean()
        return {"loss": loss, "contrast": loss.detach()}
